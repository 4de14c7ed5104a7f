"""The POSIX shell scripts that run on a device; dash, busybox, toybox and mksh all take them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

SETUP = """
umask 077
base={base}; temporary={temporary}
case "$base" in
  '') base=$temporary
      cache=${{XDG_CACHE_HOME:-${{HOME:-/nonexistent}}/.cache}}/edgeft
      mkdir -p "$cache/models" 2>/dev/null && [ -w "$cache/models" ] || cache=$temporary/edgeft-$(id -u) ;;
  /*) cache=$base/edgeft ;;
  *)  base=$PWD/$base; cache=$base/edgeft ;;
esac
mkdir -p "$base" "$cache/models" "$cache/runtimes" || exit 90
[ -O "$cache" ] && [ ! -L "$cache" ] || {{ echo "$cache belongs to someone else" >&2; exit 91; }}
find "$base" -maxdepth 1 -type d -name 'edgeft-job-*' -mtime +2 -exec rm -rf {{}} + 2>/dev/null
find "$cache/models" -mindepth 1 -maxdepth 1 -mtime +{days} -exec rm -rf {{}} + 2>/dev/null
find "$cache/models" -mindepth 1 -maxdepth 1 -name '.*' -mtime +2 -exec rm -rf {{}} + 2>/dev/null
for digest in {digests}; do
  [ -d "$cache/models/$digest" ] && touch "$cache/models/$digest" && echo "have=$digest"
done
work=$(mktemp -d "$base/edgeft-job-XXXXXXXX") || exit 92
echo "machine=$(uname -m)"
echo "cache=$cache"
echo "work=$work"
"""
"""Folders; what is old goes. A cache folder that is another user's is refused: it could hold their models."""

RUN = """
cd {work} || exit 97
exec 3<&0
env {variables} {python} -u -c {boot} {seconds} worker.py job.json </dev/null 3<&- &
worker=$!
{{ read -r line <&3 || {{ kill -9 $worker; cd /; rm -rf {work}; }}; }} >/dev/null 2>&1 &
guard=$!
wait $worker
code=$?
kill -9 $guard 2>/dev/null
exit $code
"""
"""The worker, and a guard that ends it and removes its folder when the host closes the input or is gone."""

BOOT = (
    "import runpy, signal, sys; signal.alarm(int(sys.argv[1])); sys.argv = sys.argv[2:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""The kernel ends the process at the alarm, even where a runtime hangs without returning to Python."""

EVICT = """
cd {models} || exit 0
total=0
for name in $(ls -t); do
  size=$(du -sk "$name" | cut -f1)
  total=$((total + size))
  [ "$total" -le {kilobytes} ] && continue
  case " "{keep}" " in *" $name "*) ;; *) rm -rf "$name" ;; esac
done
"""


def fill(script: str, **words: str | int | Sequence[str]) -> str:
    """The script with every word quoted for the shell; a sequence becomes words."""
    quoted = {
        name: str(value) if isinstance(value, int) else _quote(value) for name, value in {**words, "boot": BOOT}.items()
    }
    if "keep" in words:
        quoted["keep"] = shlex.quote(" ".join(str(word) for word in _sequence(words["keep"])))
    return script.format(**quoted)


def _quote(value: str | int | Sequence[str]) -> str:
    return shlex.quote(value) if isinstance(value, str) else " ".join(shlex.quote(word) for word in _sequence(value))


def _sequence(value: str | int | Sequence[str]) -> Sequence[str]:
    return [str(value)] if isinstance(value, str | int) else value
