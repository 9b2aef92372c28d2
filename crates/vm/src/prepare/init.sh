#!/bin/busybox sh
# The first program of the guest: makes the disks and the port appear, and hands over to the root that is on the first disk.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t sysfs sys /sys
for module in $($b cat /modules/order); do
  $b insmod /modules/$module || echo "init: insmod $module failed"
done
for disk in /sys/block/vd*; do
  if [ "$($b cat $disk/serial)" = tools ]; then
    $b mount -t erofs -o ro /dev/${disk##*/} /tools
  fi
done
[ -x /tools/bin/firn ] || echo "init: no tools"
exec $b switch_root /tools /bin/firn vm-init
