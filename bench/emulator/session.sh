# What configure scripts do: many small programs, pipes, files, sed and grep.
cd /tmp || exit 1
n=0
while [ $n -lt "$1" ]; do
    n=$((n + 1))
    name=`echo "check_$n" | tr a-z A-Z`
    printf '#define %s %d\nint main(void) { return %d; }\n' "$name" $n $((n % 3)) > conftest.$$.c
    if grep -q "return 1" conftest.$$.c; then result=yes; else result=no; fi
    sed -e "s/$name/HAVE_$name/" -e 's/int/long/' conftest.$$.c > conftest.$$.d
    case `uname -s`-`basename /usr/lib/x.so .so` in Linux-x) result=$result-linux ;; esac
    expr "X$result" : 'X\(.*\)-' > conftest.$$.e
    echo "$n $result `cat conftest.$$.e` `wc -c < conftest.$$.d`" >> conftest.$$.log
done
cksum < conftest.$$.log
rm -f conftest.$$.*
