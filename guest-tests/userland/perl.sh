# A small version of Perl's own tests: numbers, text, regular expressions, processes, sockets, threads.
perl /soak/check.pl | grep -q '^all right$'
