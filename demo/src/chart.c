/* chart: numbers from 0 to 100 on standard input, a PNG bar chart on standard output. */
#include <png.h>
#include <stdio.h>
#include <string.h>

enum { BARS = 200, WIDTH = 4, HEIGHT = 100 };

int main(void)
{
    static png_byte picture[HEIGHT][BARS * WIDTH];
    png_image image = { .version = PNG_IMAGE_VERSION, .height = HEIGHT, .format = PNG_FORMAT_GRAY };
    double value;
    int bars = 0;

    memset(picture, 255, sizeof picture);
    while (bars < BARS && scanf("%lf", &value) == 1) {
        for (int y = 0; y < HEIGHT; y++)
            if (HEIGHT - y <= value)
                memset(&picture[y][bars * WIDTH], 80, WIDTH - 1);
        bars++;
    }
    if (bars == 0) {
        fputs("chart: no numbers\n", stderr);
        return 1;
    }
    image.width = bars * WIDTH;
    if (!png_image_write_to_stdio(&image, stdout, 0, picture, BARS * WIDTH, NULL)) {
        fprintf(stderr, "chart: %s\n", image.message);
        return 1;
    }
    return 0;
}
