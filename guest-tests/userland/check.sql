CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, value REAL);
CREATE INDEX by_word ON t (word);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
    INSERT INTO t SELECT i, printf('w%05d', i * 7919 % 10007), i / 3.0 FROM n;
SELECT count(*), sum(id) FROM t;
PRAGMA integrity_check;
CREATE VIRTUAL TABLE words USING fts5(text);
INSERT INTO words VALUES ('one two'), ('two three'), ('four');
SELECT count(*) FROM words WHERE words MATCH 'two';
SELECT json_extract('{"a": [0.5, 1]}', '$.a[0]'), round(sqrt(9.0), 3);
BEGIN; DELETE FROM t WHERE id > 10; ROLLBACK;
DELETE FROM t WHERE id = 17;
SELECT count(*) FROM t;
PRAGMA integrity_check;
