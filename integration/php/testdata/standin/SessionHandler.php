<?php

declare(strict_types=1);

namespace Aws\DynamoDb;

class SessionHandler implements \SessionHandlerInterface
{
    private string $name = '';
    private string $current = '';    // the ID of the last call
    private string $dataRead = '';
    private bool $written = false;   // as in the SDK, a second session_start() leaves it true

    public function __construct(private SessionConnectionInterface $connection)
    {
    }

    public static function fromClient(DynamoDbClient $client, array $config = [])
    {
        return new static(empty($config['locking'])
            ? new StandardSessionConnection($client, $config)
            : new LockingSessionConnection($client, $config));
    }

    public function register()
    {
        return session_set_save_handler($this, true);
    }

    public function open($path, $name): bool
    {
        $this->name = $name;

        return true;
    }

    /** Frees the lock of a session that was not written. */
    public function close(): bool
    {
        $id = session_id();
        if ($this->current !== $id || !$this->written) {
            $this->written = (bool) $this->connection->write($this->formatId($id), '', false);
        }
        return $this->written;
    }

    public function read($id): string|false
    {
        $this->current = $id;
        $this->dataRead = '';
        $row = $this->connection->read($this->formatId($id));
        $expires = $row[$this->connection->getSessionLifetimeAttribute()] ?? null;
        $data = $row[$this->connection->getDataAttribute()] ?? null;
        if ($expires !== null && $data !== null) {
            if ($expires > time()) {
                $this->dataRead = $data;
            } else {
                $this->destroy($id);
            }
        }
        return $this->dataRead;
    }

    public function write($id, $data): bool
    {
        $changed = $id !== $this->current || $data !== $this->dataRead;
        $this->current = $id;
        $this->written = (bool) $this->connection->write($this->formatId($id), $data, $changed);

        return $this->written;
    }

    public function destroy($id): bool
    {
        $this->current = $id;
        $this->written = (bool) $this->connection->delete($this->formatId($id));

        return $this->written;
    }

    /** Does nothing: garbageCollect deletes expired sessions. */
    public function gc($lifetime): int|false
    {
        return 0;
    }

    public function garbageCollect()
    {
        $this->connection->deleteExpired();
    }

    private function formatId(string $id): string
    {
        return trim("{$this->name}_$id", '_');
    }
}
