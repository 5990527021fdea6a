#!/usr/bin/env bash
# Downloads packages of Debian into FOLDER for the tests that need PROGRAM, a path in one of them.
# FOLDER/NAME, with the name of the program, starts it. It needs apt but not root: it installs nothing and
# starts no service. Without apt it prints a message and creates nothing, and the tests that need the program
# are skipped. In CI (CI is set) this is an error.
set -euo pipefail

usage="usage: tools/debian.sh FOLDER PROGRAM PACKAGE..."
folder=${1:?$usage} program=${2:?$usage} name=$(basename "$2")
shift 2
: "${1:?$usage}"

give_up() {
    echo "tools/debian.sh: $1. The tests that need $name will be skipped." >&2
    if [[ ${CI:-} ]]; then exit 1; fi
    exit 0
}

command -v apt-get >/dev/null || give_up "apt is not installed"

rm -rf "$folder"
mkdir -p "$folder"/{lists,cache/archives}/partial "$folder"/files
cd "$folder"
folder=$PWD

# Separate package lists: those of the system can be old or missing, and only root can update them.
export APT_CONFIG=$folder/apt.conf
cat >"$APT_CONFIG" <<END
Dir::State::Lists "$folder/lists";
Dir::Cache "$folder/cache";
APT::Sandbox::User "";
END

apt-get --quiet=2 update || true # a failed source may not be needed
missing=$(apt-get --simulate --no-install-recommends install "$@" | awk '/^Inst/ { print $2 }') ||
    give_up "apt does not have $*"
# The packages themselves even if the system has them: their files find each other by their paths.
# shellcheck disable=SC2086 # several names
apt-get --quiet=2 download $(printf '%s\n' "$@" $missing | sort -u) || give_up "cannot download $*"
for package in *.deb; do
    dpkg --extract "$package" files
done

libraries=$(find files -name '*.so*' -printf "$folder/%h\n" | sort -u | paste -sd:)
cat >"$name" <<END
#!/bin/sh
export LD_LIBRARY_PATH=$libraries
exec "$folder/files/$program" "\$@"
END
chmod +x "$name"
{ "./$name" --version || "./$name" -v; } 2>&1 | tail -n 1 || give_up "$name does not start"
rm -rf lists cache ./*.deb apt.conf
