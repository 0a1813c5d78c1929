<?php

// The page of the shop that is still in PHP: the same cart, in the same session.
// SHOP_ENDPOINT is the address of DynamoDB Local; without it, the AWS SDK finds
// DynamoDB as usual. SHOP_TABLE is the table.

declare(strict_types=1);

use Aws\DynamoDb\DynamoDbClient;
use Aws\DynamoDb\SessionHandler;

require getenv('SHOP_AUTOLOAD') ?: __DIR__ . '/vendor/autoload.php'; // of composer require aws/aws-sdk-php
require __DIR__ . '/../../../php/VersionedConnection.php';

const TEAS = [
    'assam' => 'Assam Second Flush',
    'sencha' => 'Uji Sencha',
    'darjeeling' => 'Darjeeling First Flush',
    'oolong' => 'Iron Goddess',
    'peony' => 'White Peony',
    'earlgrey' => 'Earl Grey',
];

$options = ['region' => getenv('AWS_REGION') ?: 'us-east-1', 'version' => '2012-08-10'];
if ($endpoint = getenv('SHOP_ENDPOINT')) {
    $options += ['endpoint' => $endpoint, 'credentials' => ['key' => 'local', 'secret' => 'local']];
}
$connection = new VersionedConnection(new DynamoDbClient($options), [
    'table_name' => getenv('SHOP_TABLE') ?: 'sessions',
    'data_attribute_type' => 'binary', // as the pages in Go
    'session_lifetime' => 1440, // the IdleTimeout of the pages in Go
    'locking' => true,
]);
(new SessionHandler($connection))->register();

session_set_cookie_params(['path' => '/', 'httponly' => true, 'samesite' => 'Lax']);
session_start();

if (!isset($_SESSION['user'])) {
    session_abort();
    header('Location: /login', true, 303);
    exit;
}
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $tea = (string) ($_POST['tea'] ?? '');
    $change = ['more' => 1, 'fewer' => -1][$_POST['do'] ?? ''] ?? 0;
    if (isset(TEAS[$tea]) && $change !== 0) {
        $number = min(max(($_SESSION['cart'][$tea] ?? 0) + $change, 0), 99);
        $_SESSION['cart'][$tea] = $number;
        if ($number === 0) {
            unset($_SESSION['cart'][$tea]);
        }
    }
    session_write_close();
    header('Location: /php/cart.php', true, 303);
    exit;
}
$user = $_SESSION['user'];
$cart = $_SESSION['cart'] ?? [];
session_write_close();

$text = static fn(string $s): string => htmlspecialchars($s, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
?>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Your cart, in PHP · Camellia</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header class="top"><div class="wrap bar"><a class="brand" href="/">Camellia</a>
<nav aria-label="Shop"><a href="/">Teas</a><a href="/cart">Cart</a><a class="who" href="/account"><?= $text($user) ?></a></nav></div></header>
<main id="main" class="wrap">
<h1>Your cart, in PHP</h1>
<?php foreach (TEAS as $tea => $name) : ?>
<form class="amount" id="<?= $tea ?>" method="post" action="/php/cart.php">
<h2><?= $text($name) ?></h2>
<input type="hidden" name="tea" value="<?= $tea ?>">
<div class="stepper">
<button name="do" value="fewer" aria-label="One <?= $text($name) ?> fewer">−</button>
<span class="quantity"><?= $cart[$tea] ?? 0 ?></span>
<button name="do" value="more" aria-label="One more <?= $text($name) ?>">+</button>
</div>
</form>
<?php endforeach ?>
</main>
</body>
</html>
