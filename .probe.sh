set -x
printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\npids_limit = 0\n' > /etc/containers/containers.conf
useradd --create-home --uid 4711 somebody; loginctl enable-linger somebody; sleep 2; ls -la /run/user/4711
U="setpriv --reuid=4711 --regid=4711 --init-groups -- env --chdir=/ HOME=/home/somebody XDG_RUNTIME_DIR=/run/user/4711 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/4711/bus"
$U systemctl --user is-system-running
mkdir /tmp/store; chown somebody /tmp/store
mkdir -p /home/somebody/.config/containers; printf '[storage]\ndriver = "vfs"\ngraphroot="/tmp/store"\n' > /home/somebody/.config/containers/storage.conf; chown -R somebody /home/somebody
mkdir /tmp/r /tmp/r/bin; cp /bin/busybox /tmp/r/bin; ln -s busybox /tmp/r/bin/sleep; tar cC /tmp/r . > /tmp/r.tar; chmod 644 /tmp/r.tar
$U podman info 2>&1 | grep -E 'cgroup|graphDriverName|rror'
$U podman import -q /tmp/r.tar localhost/app
$U podman run --rm --network=none localhost/app sleep 0; echo rc=$?
$U podman run --rm localhost/app sleep 0; echo rc=$?
mkdir -p /home/somebody/.config/containers/systemd; printf '[Container]\nImage=localhost/app\nContainerName=web\nExec=sleep 1000\n' > /home/somebody/.config/containers/systemd/web.container; chown -R somebody /home/somebody
$U systemctl --user daemon-reload; $U systemctl --user start web; $U systemctl --user show -p Id,ActiveState,MainPID,ControlGroup web; $U podman ps; cat /proc/$($U podman inspect -f '{{.State.Pid}}' web)/cgroup | tail -1; cat /proc/$($U podman inspect -f '{{.State.ConmonPid}}' web)/cgroup | tail -1
