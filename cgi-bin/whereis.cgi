#!/bin/sh
# Runs bdserver.audit.cgi by the Python that BDserver is installed for: that of PREFIX when this is
# PREFIX/share/bdserver/cgi-bin/whereis.cgi, that of a checkout's .venv, else the system's.
here=$(dirname "$(readlink -f "$0")")
[ -d "$here/../bdserver/audit" ] && export PYTHONPATH="$here/.."
for python in "$here/../../../bin/python3" "$here/../.venv/bin/python3" /usr/bin/python3; do
    [ -x "$python" ] && exec "$python" -P -m bdserver.audit.cgi "$(basename "$0" .cgi)"
done
printf 'Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nno Python found for BDserver\n'
