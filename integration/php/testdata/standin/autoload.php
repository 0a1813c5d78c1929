<?php

// A stand-in for the part of the AWS SDK for PHP that stores sessions: the same
// names, and the same requests as recorded in ../requests.json. It is for tests.

declare(strict_types=1);

spl_autoload_register(static function (string $class): void {
    $prefix = 'Aws\\DynamoDb\\';
    if (!str_starts_with($class, $prefix)) {
        return;
    }
    $file = __DIR__ . '/' . strtr(substr($class, strlen($prefix)), '\\', '/') . '.php';
    if (is_file($file)) {
        require $file;
    }
});
