#!/usr/bin/env bash
# Downloads Debian's Redis into FOLDER for the tests that need it; FOLDER/redis-server starts it.
# It needs apt but not root: it installs nothing and starts no service. Without apt it prints a message and
# creates nothing, and the tests on Redis are skipped. In CI (CI is set) this is an error.
set -euo pipefail

give_up() {
    echo "tools/redis.sh: $1. The tests on Redis will be skipped." >&2
    if [[ ${CI:-} ]]; then exit 1; fi
    exit 0
}

command -v apt-get >/dev/null || give_up "apt is not installed"

rm -rf "${1:?usage: tools/redis.sh FOLDER}"
mkdir -p "$1"/{lists,cache/archives}/partial "$1"/files
cd "$1"
folder=$PWD

# Separate package lists: those of the system can be old or missing, and only root can update them.
export APT_CONFIG=$folder/apt.conf
cat >"$APT_CONFIG" <<END
Dir::State::Lists "$folder/lists";
Dir::Cache "$folder/cache";
APT::Sandbox::User "";
END

apt-get --quiet=2 update || true # a failed source may not be needed
missing=$(apt-get --simulate --no-install-recommends install redis-server | awk '/^Inst/ { print $2 }') ||
    give_up "apt has no package redis-server"
if [[ $missing ]]; then
    # shellcheck disable=SC2086 # several names
    apt-get --quiet=2 download $missing || give_up "cannot download $missing"
    for package in *.deb; do
        dpkg --extract "$package" files
    done
fi

libraries=$(find files -name '*.so.*' -printf "$folder/%h\n" | sort -u | paste -sd:)
cat >redis-server <<END
#!/bin/sh
PATH=$folder/files/usr/bin:\$PATH
export LD_LIBRARY_PATH=$libraries
exec "\$(command -v redis-server)" "\$@"
END
chmod +x redis-server
./redis-server --version || give_up "redis-server does not start"
rm -rf lists cache ./*.deb apt.conf
