#!/usr/bin/env bash
# Sees to the Debian packages that only tests need: installs what is missing when root, else names it in one line.
# Never fails: a test whose program is missing is skipped with that reason. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")"

# One line a need: package names, the first one that this release has is taken.
needs=(
    "fuse3"           # fusermount3: mounts as an ordinary user
    "procps"          # ps, for people who look into a failed run
    "fio"             # readers of tests and benches
    "nginx-light nginx"
    "apache2-bin"
    "nfs-ganesha"     # NFS server in user space
    "nfs-ganesha-vfs"
    "libnfs13 libnfs14 libnfs16"
    "git"             # programs that write to mounts, this and the next two
    "rsync"
    "vim"
    "buildah"         # images, this and the next three
    "runc"
    "debootstrap"
    "podman"
    "libfuse3-dev"    # from here on: to compile the pyfuse3 engine
    "pkg-config pkgconf"
    "gcc"
    "libc6-dev"
    "python3-dev"
)

command -v dpkg-query >/dev/null && command -v apt-cache >/dev/null || {
    echo "make test: not a Debian or Ubuntu system; tests whose programs are missing are skipped"
    exit 0
}
installed() { [[ $(dpkg-query -W -f '${db:Status-Abbrev}\n' "$@" 2>/dev/null) == *ii* ]]; } # dpkg-query fails if one alternative is unknown
missing=()
for need in "${needs[@]}"; do
    # shellcheck disable=SC2086 # alternatives are words
    installed $need || missing+=("$need")
done
[ ${#missing[@]} -gt 0 ] || exit 0

chosen=()
for need in "${missing[@]}"; do
    choice=${need%% *}
    for name in $need; do
        if apt-cache show "$name" >/dev/null 2>&1; then
            choice=$name
            break
        fi
    done
    chosen+=("$choice")
done
if [ "$(id -u)" != 0 ]; then
    echo "make test: some tests will be skipped; to run them all: sudo apt install ${chosen[*]}"
elif ! ./apt_install.sh "${chosen[@]}"; then
    for package in "${chosen[@]}"; do # one that does not exist here must not keep the others out
        ./apt_install.sh "$package" || echo "make test: $package could not be installed; tests that need it are skipped"
    done
fi
