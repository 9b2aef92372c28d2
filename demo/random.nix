# A build that comes out differently each time, and takes a moment: whoever asks meanwhile joins it.
derivation {
  name = "random";
  system = "x86_64-linux";
  builder = "/bin/sh";
  args = [ "-ec" "sleep 5; cat /proc/sys/kernel/random/uuid > $out" ];
}
