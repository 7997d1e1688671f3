# What Perl programs do: text, regular expressions, hashes, sorting.
use strict;
use warnings;

my ($total, %count) = (0);
for my $round (1 .. $ARGV[0]) {
    my @words = map { chr(97 + $_ % 23) . ($_ * 7919 % 1009) } 1 .. 1000;
    $count{substr $_, 0, 2}++ for @words;
    my $text = join ' ', sort { substr($a, -1) cmp substr($b, -1) || $a cmp $b } @words;
    $total++ while $text =~ /\b[a-f]\d+7\b/g;
    (my $changed = $text) =~ s/(\w)(\d+)/$2$1/g;
    $total += length($changed) + unpack('%32C*', $changed) % 1000;
}
$total += $_ for values %count;
print "$total\n";
