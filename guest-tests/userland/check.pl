use strict;
use warnings;
use Test::More;
use POSIX qw(floor strtol :sys_wait_h);
use Digest::SHA qw(sha256_hex);
use Encode;
use File::Temp;
use IO::Socket::INET;
use List::Util qw(sum reduce);
use Math::BigInt;
use Storable qw(freeze thaw);
use Time::HiRes;

is(sha256_hex('abc'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'digest');
is(Math::BigInt->new(2)->bpow(200) . '', '1606938044258990275541962092341162602522202993782792835301376', 'big');
is(sprintf('%.10g %e %x %o', 1 / 3, 12345.678, 255, 8), '0.3333333333 1.234568e+04 ff 10', 'formats');
is(length(Encode::encode('UTF-8', "\x{20ac}")), 3, 'encodings');
is(join(',', sort { $a <=> $b } map { $_ ** 2 % 7 } 1 .. 6), '1,1,2,2,4,4', 'sort');
ok('foobarbaz' =~ /^(?<a>foo)(?=bar)(?:bar|x)+(\w+?)z$/ && $+{a} eq 'foo' && $2 eq 'ba', 'expressions');
is_deeply(thaw(freeze({ a => [1, { b => 2 }] })), { a => [1, { b => 2 }] }, 'storable');
is(unpack('N', pack('N', 0xdeadbeef)), 0xdeadbeef, 'pack');
is((reduce { $a * $b } 1 .. 10), 3628800, 'reduce');
my $child = open(my $pipe, '-|') // die;
if (!$child) { print "from the child\n"; exit 0 }
is(scalar(<$pipe>), "from the child\n", 'fork and pipe');
close $pipe;
is($?, 0, 'status');
is(`echo \$((6 * 7))`, "42\n", 'shell');
local $SIG{ALRM} = sub { die "alarm\n" };
eval { Time::HiRes::alarm(0.1); select undef, undef, undef, 5; };
is($@, "alarm\n", 'alarm');
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
my $peer = fork // die;
if (!$peer) {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport) or POSIX::_exit(1);
    print $socket "hello\n";
    POSIX::_exit(0);
}
my $client = $server->accept;
is(scalar(<$client>), "hello\n", 'sockets');
waitpid $peer, 0;
my $count = 0;
local $SIG{USR1} = sub { $count++ };
for (1 .. 200) { kill USR1 => $$ }
is($count, 200, 'signals');
my $file = File::Temp->new;
print $file "line $_\n" for 1 .. 1000;
close $file;
open my $in, '<', $file->filename or die;
is(scalar(my @lines = <$in>), 1000, 'files');
ok(abs(atan2(1, 1) * 4 - 3.14159265358979) < 1e-13 && abs(exp(1) - 2.718281828459045) < 1e-14, 'functions');
done_testing;
print "all right\n" if Test::More->builder->is_passing;
