# A repository with many commits: pack, check, clone, merge.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q one
cd one
for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
    echo "line $n" >> file
    seq $n $((n * 100)) > numbers.$n
    git add . && git commit -q -m "commit $n"
done
git checkout -q -b side HEAD~4
echo side > other && git add other && git commit -q -m side
git merge -q -m merged master 2>/dev/null || git merge -q -m merged main
git gc -q && git fsck --strict
cd ..
git clone -q one two
test "`git -C two log --oneline | wc -l`" = 14
rsync -a one/ three && git -C three status --porcelain | wc -l | grep -qx 0
tar -c one | tar -x -C two
diff -r one two/one
