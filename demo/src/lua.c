/* lua FILE ARG...: runs the script with its arguments in the table `arg`. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: lua FILE ARG...\n", stderr);
        return 2;
    }
    lua_State *state = luaL_newstate();
    luaL_openlibs(state);
    lua_newtable(state);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(state, argv[i]);
        lua_rawseti(state, -2, i - 1);
    }
    lua_setglobal(state, "arg");
    if (luaL_dofile(state, argv[1])) {
        fprintf(stderr, "lua: %s\n", lua_tostring(state, -1));
        return 1;
    }
    lua_close(state);
    return 0;
}
