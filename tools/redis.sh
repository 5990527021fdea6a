#!/usr/bin/env bash
# Puts Debian's Redis into the folder given, for the tests that run on it: FOLDER/redis-server starts it.
# Needs apt, but no root: nothing is installed, no service is started. Without apt it says so and makes
# nothing, and the tests say what they left out; in CI (CI is set) that is an error.
set -euo pipefail

give_up() {
    echo "tools/redis.sh: $1, so there is no Redis and the tests will not run on it" >&2
    if [[ ${CI:-} ]]; then exit 1; fi
    exit 0
}

command -v apt-get >/dev/null || give_up "this machine has no apt"

rm -rf "${1:?usage: tools/redis.sh FOLDER}"
mkdir -p "$1"/{lists,cache/archives}/partial "$1"/files
cd "$1"
folder=$PWD

# package lists of our own: those of the machine may be old or missing, and only root may renew them
export APT_CONFIG=$folder/apt.conf
cat >"$APT_CONFIG" <<END
Dir::State::Lists "$folder/lists";
Dir::Cache "$folder/cache";
APT::Sandbox::User "";
END

apt-get --quiet=2 update || true # a source that does not answer may not matter
missing=$(apt-get --simulate --no-install-recommends install redis-server | awk '/^Inst/ { print $2 }') ||
    give_up "apt has no redis-server"
if [[ $missing ]]; then
    # shellcheck disable=SC2086 # several names
    apt-get --quiet=2 download $missing || give_up "$missing could not be had"
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
./redis-server --version || give_up "it does not start"
rm -rf lists cache ./*.deb apt.conf
