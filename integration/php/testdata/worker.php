<?php

// A PHP process for the tests. Each line on its standard input is a JSON object with
// PHP code, as a page would have it. It runs the code and answers with a line:
// the value that the code returns, the warnings, and the exception if there was one.
// Its argument is a JSON object with its settings.

declare(strict_types=1);

error_reporting(E_ALL);
ini_set('display_errors', 'stderr');
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');

require __DIR__ . '/standin/autoload.php';

$settings = json_decode($argv[1], true, 512, JSON_THROW_ON_ERROR);
foreach ($settings['ini'] ?? [] as $name => $value) {
    ini_set($name, $value);
}
$client = new Aws\DynamoDb\DynamoDbClient($settings['client']);
if ($settings['versioned'] ?? false) {
    require __DIR__ . '/../../../php/VersionedConnection.php';
    $connection = new VersionedConnection($client, $settings['config']);
    $handler = new Aws\DynamoDb\SessionHandler($connection);
} else {
    $handler = Aws\DynamoDb\SessionHandler::fromClient($client, $settings['config']);
}
$handler->register();

$warnings = [];
set_error_handler(static function (int $level, string $message) use (&$warnings): bool {
    $warnings[] = $message;
    return true;
});

// What a page with the session id does to increase names[...] until it is acknowledged: the
// session is written without a warning or an exception.
function increase(string $id, string ...$names): array
{
    global $warnings;
    $refused = $empty = 0;
    while (true) {
        $warnings = [];
        try {
            session_id($id);
            session_start();
            $empty += $_SESSION === [] ? 1 : 0;
            foreach ($names as $name) {
                $_SESSION[$name] = ($_SESSION[$name] ?? 0) + 1;
            }
            if (session_write_close() && $warnings === []) {
                return ['refused' => $refused, 'empty' => $empty];
            }
        } catch (RuntimeException) {
        }
        $refused++;
        usleep(random_int(1000, 20000));
    }
}

while (($line = fgets(STDIN)) !== false) {
    $warnings = [];
    $answer = [];
    try {
        $code = json_decode($line, true, 512, JSON_THROW_ON_ERROR)['code'];
        $answer['value'] = eval($code);
    } catch (Throwable $e) {
        $answer['exception'] = $e->getMessage();
    }
    $answer['warnings'] = $warnings;
    fwrite(STDOUT, json_encode($answer, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE) . "\n");
}
