<?php

declare(strict_types=1);

namespace Aws\DynamoDb;

use Aws\DynamoDb\Exception\DynamoDbException;

/**
 * Sends requests to a local engine over plain HTTP, one after the other on one
 * connection. The engine wants a signature, and does not verify it.
 *
 * @method array getItem(array $args)
 * @method array putItem(array $args)
 * @method array updateItem(array $args)
 * @method array deleteItem(array $args)
 * @method array scan(array $args)
 * @method array batchWriteItem(array $args)
 */
class DynamoDbClient
{
    private const SIGNATURE = 'AWS4-HMAC-SHA256 Credential=local/20200101/us-east-1/dynamodb/aws4_request, '
        . 'SignedHeaders=host, Signature=0';
    private const THROTTLES = ['ProvisionedThroughputExceededException', 'ThrottlingException', 'RequestLimitExceeded'];

    private string $address;
    private int $retries;
    private float $timeout;
    private bool $put;

    /** @var resource|null */
    private $connection = null;

    /**
     * - endpoint: "http://host:port"
     * - retries: after the first attempt. Default: 2
     * - timeout: of an attempt, in seconds. Default: 60
     * - put: whether an attribute update without an action gets the action PUT,
     *   which DynamoDB takes for it, and DynamoDB Local does not. Default: true
     */
    public function __construct(array $args)
    {
        $url = parse_url($args['endpoint']);
        $this->address = $url['host'] . ':' . ($url['port'] ?? 80);
        $this->retries = $args['retries'] ?? 2;
        $this->timeout = (float) ($args['timeout'] ?? 60);
        $this->put = $args['put'] ?? true;
    }

    public function __call(string $name, array $arguments): array
    {
        $args = $arguments[0] ?? [];
        $retries = $args['@retries'] ?? $this->retries;
        unset($args['@retries']);
        if ($this->put) {
            foreach ($args['AttributeUpdates'] ?? [] as $attribute => $update) {
                $args['AttributeUpdates'][$attribute] += ['Action' => 'PUT'];
            }
        }
        $body = json_encode(self::encode($args), JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
        for ($attempt = 0; ; $attempt++) {
            try {
                return $this->attempt(ucfirst($name), $body);
            } catch (DynamoDbException $e) {
                $again = $e->isConnectionError() || $e->getStatusCode() >= 500
                    || in_array($e->getAwsErrorCode(), self::THROTTLES, true);
                if (!$again || $attempt >= $retries) {
                    throw $e;
                }
                usleep(random_int(0, 50000 << $attempt));
            }
        }
    }

    private function attempt(string $operation, string $body): array
    {
        try {
            [$status, $answer] = $this->exchange($operation, $body);
        } catch (\RuntimeException $e) {
            $this->connection = null;
            throw new DynamoDbException("$operation: " . $e->getMessage(), null, null, $e);
        }
        $decoded = json_decode($answer, true);
        if ($status === 200 && is_array($decoded)) {
            return self::decode($decoded);
        }
        $type = (string) ($decoded['__type'] ?? 'no type');
        $message = (string) ($decoded['message'] ?? $decoded['Message'] ?? 'no message');
        throw new DynamoDbException("$operation: $message", substr(strrchr("#$type", '#'), 1), $status);
    }

    /** Returns the status and the body of the answer. */
    private function exchange(string $operation, string $body): array
    {
        if ($this->connection === null || feof($this->connection)) {
            $this->connection = $this->connect();
        }
        $request = "POST / HTTP/1.1\r\nHost: {$this->address}\r\nContent-Type: application/x-amz-json-1.0\r\n"
            . "X-Amz-Target: DynamoDB_20120810.$operation\r\nAuthorization: " . self::SIGNATURE . "\r\n"
            . 'Content-Length: ' . strlen($body) . "\r\n\r\n$body";
        for ($sent = 0; $sent < strlen($request); $sent += $n) {
            $n = @fwrite($this->connection, $sent === 0 ? $request : substr($request, $sent));
            if ($n === false || $n === 0) {
                throw new \RuntimeException('the request was not sent');
            }
        }
        $status = (int) (explode(' ', $this->line(), 3)[1] ?? 0);
        $headers = [];
        while (($line = $this->line()) !== '') {
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $headers[strtolower($name)] = trim($value);
        }
        if (($headers['transfer-encoding'] ?? '') === 'chunked') {
            $answer = '';
            while (($size = (int) hexdec($this->line())) > 0) {
                $answer .= $this->bytes($size);
                $this->line();
            }
            $this->line();
        } else {
            $answer = $this->bytes((int) ($headers['content-length'] ?? 0));
        }
        if (strtolower($headers['connection'] ?? '') === 'close') {
            $this->connection = null;
        }
        return [$status, $answer];
    }

    /** @return resource */
    private function connect()
    {
        $connection = @stream_socket_client('tcp://' . $this->address, $code, $message, $this->timeout);
        if ($connection === false) {
            throw new \RuntimeException("connect: $message");
        }
        stream_set_timeout($connection, (int) $this->timeout, (int) (fmod($this->timeout, 1) * 1e6));
        return $connection;
    }

    private function line(): string
    {
        $line = fgets($this->connection);
        if ($line === false || !str_ends_with($line, "\n")) {
            throw new \RuntimeException('no answer');
        }
        return rtrim($line, "\r\n");
    }

    private function bytes(int $size): string
    {
        $bytes = $size === 0 ? '' : stream_get_contents($this->connection, $size);
        if ($bytes === false || strlen($bytes) !== $size) {
            throw new \RuntimeException('the answer broke off');
        }
        return $bytes;
    }

    /** Encodes the values of type B, which alone have the form ['B' => string]. */
    private static function encode(array $value): array
    {
        foreach ($value as $key => $member) {
            if (is_array($member)) {
                $value[$key] = self::encode($member);
            } elseif ($key === 'B') {
                $value[$key] = base64_encode($member);
            }
        }
        return $value;
    }

    private static function decode(array $value): array
    {
        foreach ($value as $key => $member) {
            if (is_array($member)) {
                $value[$key] = self::decode($member);
            } elseif ($key === 'B') {
                $value[$key] = base64_decode($member);
            }
        }
        return $value;
    }
}
