#!/bin/sh
# Install the real parts that the tests talk to (Debian packages), where that is allowed.
# Elsewhere the tests that need them skip and say so, or fail where ICHNODE_REQUIRE_PEERS=1.
missing=""
for pair in storescu:dcmtk Orthanc:orthanc dciodvfy:dicom3tools strace:strace \
            chromium:chromium systemd-analyze:systemd; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not here, and not installed by this script:$missing (tests that need them will skip)"
    exit 0
fi
echo "installing:$missing"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    echo "could not install:$missing (tests that need them will skip)"
