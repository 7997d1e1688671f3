# Smaller tools: sed, awk, find, sort, jq, tcl, dates.
test "`seq 1 1000 | awk '{ s += $1 } END { print s }'`" = 500500
test "`printf 'c\nb\na\n' | sort | tr -d '\n'`" = abc
test "`echo '{"a": [1, {"b": 2.5}]}' | jq -c '.a[1].b * 2'`" = 5
test "`echo 'puts [expr {2 ** 70}]' | tclsh`" = 1180591620717411303424
test "`TZ=Europe/Berlin date -d @1700000000 +%FT%T%z`" = 2023-11-14T23:13:20+0100
test "`find /usr/share/zoneinfo -name Berlin | wc -l`" -ge 1
test "`printf 'x%.0s' $(seq 1 300) | wc -c`" = 300
locale -a > /dev/null
file /bin/bash | grep -q "$GUEST_FILE"
gpg --version | head -1 | grep -q GnuPG
ps -e -o pid,comm > processes
systemd-analyze calendar daily > /dev/null
systemd-tmpfiles --version > /dev/null
echo x > text && vim.tiny -es -u NONE -c 's/x/42/' -c wq text
test "`cat text`" = 42
visudo -cf /etc/sudoers > /dev/null
