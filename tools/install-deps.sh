#!/bin/sh
# Installs the Debian packages that modelfs needs and that are missing; quick when nothing is.
#   tools/install-deps.sh          to build and mount (required)
#   tools/install-deps.sh tests    what the tests also use; where one cannot be had, those tests are skipped and say so
#   tools/install-deps.sh bench    tools that the benchmarks compare with
#   tools/install-deps.sh frameworks   what the framework matrix uses beside what the tests do
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        echo "install these packages as root, or install sudo: $missing" >&2
        exit 1
    fi
}

missing=""
need() { # need TEST PACKAGE: the package is missing when the test fails
    if ! sh -c "$1" >/dev/null 2>&1; then missing="$missing $2"; fi
}

install() {
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "not a Debian system: install the equivalents of$missing" >&2
        return 1
    fi
    echo "installing Debian packages:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

case "${1:-}" in
tests)
    need "command -v sshd || test -x /usr/sbin/sshd" openssh-server
    need "command -v sftp" openssh-client
    need "command -v ip && command -v nsenter" iproute2
    for tool in mon mgr osd; do need "command -v ceph-$tool" ceph-$tool; done
    need "command -v radosgw" radosgw
    need "command -v ceph" ceph-common
    need "command -v systemd-analyze" systemd
    need "command -v chromium" chromium
    for shell in zsh fish; do need "command -v $shell" $shell; done
    need "command -v promtool" prometheus
    need "ls /usr/lib/postgresql/*/bin/postgres" postgresql
    need "command -v mariadbd || test -x /usr/sbin/mariadbd" mariadb-server-core
    need "command -v nginx || test -x /usr/sbin/nginx" nginx
    need "test -e /usr/lib/nginx/modules/ngx_http_dav_ext_module.so" libnginx-mod-http-dav-ext
    need "command -v java" openjdk-17-jre-headless
    # What WebHDFS of tools/hdfs.py needs beside Hadoop's own jars.
    for jar in jersey1-core:libjersey1-core-java jersey1-server:libjersey1-server-java \
        jersey1-servlet:libjersey1-servlet-java jsr311-api:libjsr311-api-java commons-daemon:libcommons-daemon-java \
        asm-all:libasm-java jaxb-api:libjaxb-api-java jaxb-runtime:libjaxb-java \
        javax.activation:libactivation-java istack-commons-runtime:libistack-commons-java txw2:libtxw2-java \
        stax-ex:libstax-ex-java FastInfoset:libfastinfoset-java; do
        need "test -e /usr/share/java/${jar%%:*}.jar" "${jar##*:}"
    done
    install || echo "tests that need$missing will be skipped"
    ;;
bench)
    need "command -v restic" restic
    need "command -v borg" borgbackup
    need "command -v casync" casync
    need "command -v s3fs" s3fs
    need "command -v mergerfs" mergerfs
    install || echo "the tables will not show$missing"
    ;;
frameworks)
    need "command -v strace" strace
    install || echo "the page will not show what needs$missing"
    ;;
"")
    need "command -v fusermount3" fuse3
    need "command -v pkg-config" pkg-config
    need "pkg-config --exists fuse3" libfuse3-dev
    need "command -v cc" gcc
    need "test -e /usr/include/stdlib.h" libc6-dev
    need "python3 -c 'import ensurepip'" python3-venv
    need "python3 -c 'import os, sysconfig; os.stat(sysconfig.get_paths()[\"include\"] + \"/Python.h\")'" python3-dev
    install
    ;;
*)
    echo "usage: $0 [tests|bench|frameworks]" >&2
    exit 2
    ;;
esac
