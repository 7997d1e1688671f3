# What Perl's own tests would show in small: numbers, text, regular expressions, processes, sockets, threads.
perl /soak/check.pl | grep -q '^all right$'
