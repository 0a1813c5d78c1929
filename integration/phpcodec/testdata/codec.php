<?php
// Answers questions about sessions, one on each line: a command, the name of a
// handler, and an argument in base64. See peer_test.go.
declare(strict_types=1);
error_reporting(E_ALL & ~E_DEPRECATED);

enum Suit: string { case Hearts = 'h'; case Spades = 's'; }
class Point { public $x; protected $y; private $z; public function __construct($x, $y, $z) { $this->x = $x; $this->y = $y; $this->z = $z; } }
class Typed { public ?string $name = null; private array $list = []; public ?Typed $next = null; public function put(array $l): void { $this->list = $l; } }
class Magic { public $a; public function __serialize(): array { return ['x' => $this->a, 7 => 'seven']; } public function __unserialize(array $d): void { $this->a = $d['x']; } }
class Sleeper { public $keep; public $drop = 1; public function __sleep() { return ['keep']; } }
class Old implements Serializable { public $s; public function serialize() { return $this->s; } public function unserialize($s) { $this->s = $s; } }

/** Stores nothing. */
final class Nowhere implements SessionHandlerInterface {
    public function open(string $path, string $name): bool { return true; }
    public function close(): bool { return true; }
    public function read(string $id): string|false { return ''; }
    public function write(string $id, string $data): bool { return true; }
    public function destroy(string $id): bool { return true; }
    public function gc(int $max): int|false { return 0; }
}

$complaints = [];
set_error_handler(function (int $no, string $text) use (&$complaints): bool { $complaints[] = $text; return true; });
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');
session_set_save_handler(new Nowhere(), false);

/** Writes a value so that it tells types, bytes, order and shared objects. */
function dump(mixed $v, array &$objects, array &$refs): string {
    switch (true) {
        case $v === null: return 'null';
        case is_bool($v): return $v ? 'true' : 'false';
        case is_int($v): return 'i' . $v;
        case is_float($v): return 'd' . (is_nan($v) ? 'nan' : bin2hex(pack('E', $v)));
        case is_string($v): return 's' . bin2hex($v);
        case is_array($v): return '[' . elements($v, $objects, $refs) . ']';
        case $v instanceof UnitEnum: return 'E' . $v::class . ':' . $v->name;
    }
    $id = spl_object_id($v);
    if (isset($objects[$id])) { return 'O' . $objects[$id]; }
    $objects[$id] = count($objects);
    $mark = 'O' . $objects[$id] . '=' . $v::class;
    if ($v instanceof DateTimeInterface) { return $mark . '(' . $v->format('U.u e') . ')'; }
    return $mark . '{' . elements(get_mangled_object_vars($v), $objects, $refs) . '}';
}

/** Writes elements so that it tells references, too. */
function elements(array $a, array &$objects, array &$refs): string {
    $out = [];
    foreach (array_keys($a) as $k) {
        $mark = (is_int($k) ? 'i' . $k : 's' . bin2hex($k)) . ':';
        if (($r = ReflectionReference::fromArrayElement($a, $k)) !== null) {
            if (isset($refs[$r->getId()])) {
                $out[] = $mark . '&' . $refs[$r->getId()];
                continue;
            }
            $refs[$r->getId()] = count($refs);
            $mark .= '&' . $refs[$r->getId()] . '=';
        }
        $out[] = $mark . dump($a[$k], $objects, $refs);
    }
    return implode(',', $out);
}

function dumpSession(): string {
    $objects = $refs = [];
    return is_array($_SESSION) ? elements($_SESSION, $objects, $refs) : 'no array';
}

function text(): string {
    $bytes = ['a', 'b', 'é', '|', ':', ';', '"', '{', '}', "\0", "\xff", "\x80", "\n", 's:1:', 'r:1;', ' '];
    $s = '';
    for ($n = mt_rand(0, 8); $n > 0; $n--) { $s .= $bytes[mt_rand(0, count($bytes) - 1)]; }
    return $s;
}

/** Makes a random value; $pool are the objects so far. */
function value(int $depth, array &$pool): mixed {
    switch (mt_rand(0, $depth > 0 ? 15 : 7)) {
        case 0: return null;
        case 1: return (bool) mt_rand(0, 1);
        case 2: return [0, -1, PHP_INT_MAX, PHP_INT_MIN, mt_rand()][mt_rand(0, 4)];
        case 3: return [0.0, -0.0, 0.1, 1.0, 1e25, 1.5e-10, INF, -INF, NAN, PHP_FLOAT_MIN, PHP_FLOAT_MAX, 5e-324, 1e17, 1e16, 0.0001, 0.00001][mt_rand(0, 15)];
        case 4: return mt_rand() / mt_getrandmax() * 10 ** mt_rand(-30, 30);
        case 5: case 6: return text();
        case 7: return [Suit::Hearts, Suit::Spades][mt_rand(0, 1)];
        case 8: case 9: $list = []; for ($n = mt_rand(0, 4); $n > 0; $n--) { $list[] = value($depth - 1, $pool); } return $list;
        case 10: case 11: $map = []; for ($n = mt_rand(0, 4); $n > 0; $n--) { $map[mt_rand(0, 1) ? text() : mt_rand(-5, 50)] = value($depth - 1, $pool); } return $map;
        case 12: if ($pool) { return $pool[mt_rand(0, count($pool) - 1)]; } // no break
        case 13:
            $o = [
                fn () => new Point(value($depth - 1, $pool), value($depth - 1, $pool), value($depth - 1, $pool)),
                function () use ($depth, &$pool) { $o = new stdClass(); for ($n = mt_rand(0, 3); $n > 0; $n--) { $o->{'p' . mt_rand(0, 9)} = value($depth - 1, $pool); } return $o; },
                function () use ($depth, &$pool) { $o = new Typed(); $o->name = text(); $o->put([value($depth - 1, $pool)]); if (mt_rand(0, 1)) { $o->next = new Typed(); } return $o; },
                function () use ($depth, &$pool) { $o = new Magic(); $o->a = value($depth - 1, $pool); return $o; },
                function () use ($depth, &$pool) { $o = new Sleeper(); $o->keep = value($depth - 1, $pool); return $o; },
                fn () => new DateTimeImmutable('@' . mt_rand(0, 2000000000)),
                fn () => new DateTime(date('Y-m-d H:i:s', mt_rand(0, 2000000000)) . '.' . mt_rand(100000, 999999), new DateTimeZone(['Europe/Paris', 'UTC', '+05:30', 'America/New_York'][mt_rand(0, 3)])),
            ][mt_rand(0, 6)]();
            $pool[] = $o;
            return $o;
        case 14: $a = [value($depth - 1, $pool), 1]; $a['ref'] = &$a[mt_rand(0, 1)]; return $a;
        default: $o = new stdClass(); $o->self = $o; $pool[] = $o; return $o;
    }
}

/** Fills $_SESSION. */
function fill(int $seed): void {
    mt_srand($seed);
    $pool = [];
    $names = ['user', 'cart', 'b', 'a', 'Z', 'é', 'x y', '', 'flash', '_meta'];
    shuffle($names);
    for ($n = mt_rand(0, 7); $n > 0; $n--) { $_SESSION[$names[$n]] = value(mt_rand(0, 4), $pool); }
    if ($seed % 5 === 0) { $_SESSION['one'] = mt_rand(); $_SESSION['alias'] = &$_SESSION['one']; }
    if ($seed % 7 === 0 && $seed % 5 !== 0) { $_SESSION = array_filter($_SESSION, fn ($v) => is_scalar($v)); $o = new Old(); $o->s = 'raw;' . $seed; $_SESSION['old'] = $o; }
}

while (($line = fgets(STDIN)) !== false) {
    [$command, $handler, $arg] = explode(' ', rtrim($line, "\n")) + [2 => ''];
    $arg = base64_decode($arg, true);
    $complaints = [];
    ini_set('session.serialize_handler', $handler);
    session_id('x' . bin2hex(random_bytes(8)));
    session_start();
    $_SESSION = [];
    $ok = true;
    try {
        if ($command === 'fill') {
            fill((int) $arg);
        } elseif ($command === 'without') { // the name of a value, a line feed, and the session
            [$name, $arg] = explode("\n", $arg, 2);
            $ok = session_decode($arg);
            unset($_SESSION[$name]);
        } else {
            $ok = session_decode($arg);
        }
    } catch (Throwable $e) {
        $ok = false;
        $complaints[] = $e::class . ': ' . $e->getMessage();
    }
    $dump = $ok ? dumpSession() : '';
    $said = $complaints;
    $encoded = $ok ? (string) session_encode() : '';
    if (session_status() === PHP_SESSION_ACTIVE) { session_abort(); }
    $answer = ['ok' => $ok, 'dump' => $dump, 'data' => base64_encode($encoded), 'said' => $said];
    fwrite(STDOUT, json_encode($answer, JSON_INVALID_UTF8_SUBSTITUTE | JSON_THROW_ON_ERROR) . "\n");
}
