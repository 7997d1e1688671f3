# A database with an index, triggers, text search, a transaction that is rolled back; SQLite checks it itself.
sqlite3 data.db < /soak/check.sql > result
printf '10000|50005000\nok\n2\n0.5|3.0\n9999\nok\n' | cmp - result
