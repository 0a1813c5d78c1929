<?php

declare(strict_types=1);

use Aws\DynamoDb\DynamoDbClient;
use Aws\DynamoDb\Exception\DynamoDbException;
use Aws\DynamoDb\StandardSessionConnection;

/**
 * A connection for the session handler of the AWS SDK for PHP. It keeps the rules
 * of package backend/dynamodb of the Go module github.com/seed-a7bee19b/session,
 * so PHP pages and Go pages can share the sessions in one table. It needs
 * PHP 8.1 or later and version 3 of the SDK, which the site has. Use:
 *
 *     require 'VersionedConnection.php';
 *
 *     $connection = new VersionedConnection($client, [
 *         'table_name' => 'sessions',
 *         'locking'    => true,
 *     ]);
 *     (new Aws\DynamoDb\SessionHandler($connection))->register();
 *
 * It takes the settings of SessionHandler::fromClient, and these:
 *
 * - lock_lease: seconds after which a lock ends whose holder has not freed it.
 *   Default: 30. It should be longer than the longest request.
 * - throw: whether a failed write throws an exception. Default: false, a warning.
 *
 * The settings consistent_read and batch_config have no effect: every read is
 * consistent. The Go side must have the default names of the attributes version,
 * created, lock, lock_until and private.
 *
 * Writes. Every write names the state that it replaces. It is refused if the
 * session was changed, destroyed, moved to a new ID or has expired since this
 * request has read it. So no update is overwritten, and no session comes back
 * after a logout. A refused write is a warning (E_USER_WARNING) and
 * nothing else: PHP's session_write_close() returns true even so. With
 * 'throw' => true it is a RuntimeException, which session_write_close() passes on.
 * A page that wants to repeat its work then calls session_start() again. If PHP
 * writes the session by itself at the end of the page, nobody can catch the
 * exception, and it is logged as a fatal error.
 *
 * Without locking, two requests may have one session open. If both change it, the
 * second is refused. With locking they wait for each other.
 *
 * Reads. session_start() throws a RuntimeException if the store fails, or if
 * another request keeps the lock for longer than max_lock_wait_time seconds. The
 * stock handler goes on with an empty session, and saves that.
 *
 * Locks. A lock has a lease. If its holder dies, others go on with the session
 * when the lease has run out. A holder that is too slow and has lost its lock
 * cannot write. The lock of the stock handler has no lease, and is respected; if its
 * holder has died, session_start() throws until a Go page has broken the lock or
 * the session has expired. A lock of the stock handler on a row that has no
 * session yet is ignored after max_lock_wait_time.
 *
 * IDs. A row with the attribute private stands for an ID that a Go page has
 * replaced. PHP sees no session there. If the page stores values, it begins
 * a new session under the old ID, and the row stands for the replaced ID no more.
 * session_destroy() and session_regenerate_id(true) fail if a Go page has replaced
 * the ID since this request has read the session: the session goes on under the new
 * ID, and a logout must be repeated there.
 *
 * The Go side keeps values of its own in the session. Their names begin with
 * "_session.", and a page should leave them as they are.
 *
 * No row is stored for a visitor whose session is empty. If two requests begin a
 * session under the same ID at the same time, the second is refused. A write that
 * begins a session is sent once: if its answer is lost and the row does not
 * show it, it has failed, as a second try could bring back a session that was
 * destroyed in between.
 *
 * Cost. A page sends what it sends with the stock handler: with locking two
 * UpdateItem, otherwise a GetItem and an UpdateItem. With locking a page that finds no
 * session sends a GetItem more. A visitor whose session stays empty saves the last
 * UpdateItem. A refused write is followed by a GetItem. A request that waits for a lock
 * sends a GetItem every 10 to 50 ms.
 */
class VersionedConnection extends StandardSessionConnection
{
    private const TOKEN_SIZE = 8;       // bytes; every write adds one to the version
    private const VERSION_SIZE = 128;   // of 16 tokens, newest first
    private const LOCK_SIZE = 16;
    private const EMPTY = ['', 'a:0:{}'];
    private const THROTTLED = [
        'ProvisionedThroughputExceededException',
        'RequestLimitExceeded',
        'ThrottlingException',
    ];

    // The lock of the stock handler has no lease, but a lease that was over before
    // may still stand beside it.
    private const FREE = '(attribute_not_exists(#lock) OR (attribute_type(#lock, :binary) AND #until <= :ms))';

    private int $lockLease = 30;
    private bool $throw = false;

    /**
     * The rows of the sessions that this process has read and not ended, by key,
     * as they were read or written last. A row has the attribute lock only
     * if this process holds the lock.
     *
     * @var array<string, array<string, array<string, string>>>
     */
    private array $rows = [];

    public function __construct(DynamoDbClient $client, array $config = [])
    {
        parent::__construct($client, $config);
        foreach (array_keys($config) as $name) {
            if (!method_exists($this, 'set' . str_replace('_', '', (string) $name))) {
                throw new InvalidArgumentException("there is no setting $name");
            }
        }
        if ($this->lockLease < 1) {
            throw new InvalidArgumentException('lock_lease must be 1 second or more');
        }
        if ($this->getSessionLifetime() < 1) {
            throw new InvalidArgumentException('session_lifetime must be 1 second or more');
        }
        if (!in_array($this->getDataAttributeType(), ['string', 'binary'], true)) {
            throw new InvalidArgumentException('data_attribute_type must be string or binary');
        }
        $names = [
            $this->getHashKey(), $this->getDataAttribute(), $this->getSessionLifetimeAttribute(),
            'version', 'created', 'lock', 'lock_until', 'private',
        ];
        if (count(array_unique($names)) < count($names)) {
            throw new InvalidArgumentException('two attributes of a row have the same name');
        }
    }

    /**
     * Frees the locks that the handler has left: after the second session_start()
     * of a page it does not call write() for session_abort() and read_and_close.
     */
    public function __destruct()
    {
        foreach ($this->rows as $id => $row) {
            try {
                if (isset($row['lock'])) {
                    $this->touch((string) $id, $row);
                }
            } catch (Throwable) {
                // The lease ends it.
            }
        }
    }

    public function setLockLease($seconds): void
    {
        $this->lockLease = (int) $seconds;
    }

    public function setThrow($throw): void
    {
        $this->throw = (bool) $throw;
    }

    /** Returns the values of the row, or none if there is no live session. */
    public function read($id): array
    {
        // session_reset() reads while this process holds the lock.
        $lock = $this->rows[$id]['lock']['B'] ?? random_bytes(self::LOCK_SIZE);
        try {
            $row = $this->isLocking() ? $this->lockRow($id, $lock) : $this->getRow($id);
        } catch (DynamoDbException $e) {
            throw new RuntimeException('The session was not read: the store failed.', 0, $e);
        }
        if (($row['lock']['B'] ?? '') !== $lock) {
            unset($row['lock']);
        }
        $this->rows[$id] = $row;

        return $this->isLive($row) ? array_map('current', $row) : [];
    }

    /** Writes what was changed, or only moves the end of the session. */
    public function write($id, $data, $isChanged): bool
    {
        $row = $this->rows[$id] ?? null;
        if ($row === null) {
            // The read has failed, or the session was destroyed.
            return !$isChanged || $this->fail('this request has not read it, or has ended it');
        }
        if ($this->isLive($row)) {
            return $isChanged ? $this->replace($id, $row, $data) : $this->touch($id, $row);
        }
        if (!$isChanged || in_array($data, self::EMPTY, true)) {
            return true;
        }
        unset($this->rows[$id]);

        return $this->create($id, $row, $data);
    }

    /** Deletes the session, whoever holds its lock. */
    public function delete($id): bool
    {
        try {
            $this->client->deleteItem([
                'TableName' => $this->getTableName(),
                'Key' => $this->formatKey($id),
                'ConditionExpression' => 'attribute_not_exists(#private)',
                'ExpressionAttributeNames' => ['#private' => 'private'],
            ]);
        } catch (DynamoDbException $e) {
            if (!self::isRefused($e)) {
                return $this->fail('the store failed', $e);
            }
            $row = $this->rows[$id] ?? [];
            unset($this->rows[$id]);

            return !$this->isLive($row) || $this->fail('it has moved to a new ID, and was not destroyed');
        }
        unset($this->rows[$id]);

        return true;
    }

    /** Deletes expired sessions, but none that begins anew at the same time. */
    public function deleteExpired(): void
    {
        $scan = [
            'TableName' => $this->getTableName(),
            'ProjectionExpression' => '#key',
            'FilterExpression' => '#expires <= :now',
            'ExpressionAttributeNames' => ['#key' => $this->getHashKey(), '#expires' => $this->getSessionLifetimeAttribute()],
            'ExpressionAttributeValues' => [':now' => ['N' => (string) time()]],
        ];
        do {
            $page = $this->client->scan($scan);
            foreach ($page['Items'] as $key) {
                $this->deleteIfExpired($key);
            }
            $scan['ExclusiveStartKey'] = $page['LastEvaluatedKey'] ?? null;
        } while (!empty($scan['ExclusiveStartKey']));
    }

    private function deleteIfExpired(array $key): void
    {
        try {
            $this->client->deleteItem([
                'TableName' => $this->getTableName(),
                'Key' => $key,
                'ConditionExpression' => '#expires <= :now',
                'ExpressionAttributeNames' => ['#expires' => $this->getSessionLifetimeAttribute()],
                'ExpressionAttributeValues' => [':now' => ['N' => (string) time()]],
            ]);
        } catch (DynamoDbException $e) {
            if (!self::isRefused($e)) {
                throw $e;
            }
        }
    }

    /** Returns the row with its lock taken, or one without a session, which needs no lock. */
    private function lockRow(string $id, string $lock): array
    {
        $end = microtime(true) + $this->getMaxLockWaitTime();
        $row = [];
        while (true) {
            if (!$this->isLocked($row)) {
                $locked = $this->tryLock($id, $lock);
                if ($locked !== null) {
                    return $locked;
                }
            }
            $row = $this->getRow($id);
            $begins = $this->isBegunByStock($row);
            if (!$this->isLive($row) && !$begins) {
                return $row;
            }
            if (microtime(true) >= $end) {
                if ($begins) {
                    return $row;
                }
                throw new RuntimeException('The session was not read: another request keeps its lock.');
            }
            $this->pause();
        }
    }

    /** Returns the row, or null if it is locked or there is no live session. */
    private function tryLock(string $id, string $lock): ?array
    {
        try {
            // If an answer is lost, the SDK tries again and meets its own lock.
            $answer = $this->update($id, [
                'UpdateExpression' => 'SET #lock = :lock, #until = :until',
                'ConditionExpression' => '#expires > :now AND attribute_not_exists(#private)'
                    . ' AND (#lock = :lock OR ' . self::FREE . ')',
                'ReturnValues' => 'ALL_NEW',
            ], [
                ':lock' => ['B' => $lock],
                ':until' => ['N' => self::milliseconds($this->lockLease)],
            ]);
        } catch (DynamoDbException $e) {
            if (self::isRefused($e)) {
                return null;
            }
            throw $e;
        }
        return $answer['Attributes'];
    }

    /** Moves the end of a session forward, and frees its lock. */
    private function touch(string $id, array $row): bool
    {
        $expires = ['N' => $this->endAfter($row)];
        $condition = 'attribute_not_exists(#private) AND #expires > :now';
        $lock = [];
        if (isset($row['lock'])) {
            $condition .= ' AND #lock = :lock';
            $lock = [':lock' => $row['lock']];
        }
        unset($row['lock']);
        $remove = $lock === [] ? '' : 'REMOVE #lock, #until';
        try {
            $moved = $this->updateIf($id, "SET #expires = :expires $remove", "$condition AND #expires <= :expires", $lock
                + [':expires' => $expires]);
            // Perhaps another request has moved the end further.
            if (!$moved && $lock !== []) {
                $this->updateIf($id, $remove, $condition, $lock);
            }
        } catch (DynamoDbException $e) {
            return $this->fail('the store failed', $e);
        }
        // If both were refused, nothing of this request is lost: the session has
        // ended or moved, or the lock is another's now.
        if ($moved) {
            $row[$this->getSessionLifetimeAttribute()] = $expires;
        }
        $this->rows[$id] = $row;

        return true;
    }

    /** Stores changed data over the state that was read. */
    private function replace(string $id, array $row, string $data): bool
    {
        $conditions = ['#expires > :now', isset($row['lock']) ? '#lock = :lock' : self::FREE];
        $values = [];
        if (isset($row['lock'])) {
            $values[':lock'] = $row['lock'];
        }
        // The stock handler leaves the version as it is. On a table where it still
        // writes, only the data tells its writes.
        foreach (['version' => 'version', 'data' => $this->getDataAttribute()] as $name => $attribute) {
            if (isset($row[$attribute])) {
                $conditions[] = "#$name = :old_$name";
                $values[":old_$name"] = $row[$attribute];
            } else {
                $conditions[] = "attribute_not_exists(#$name)";
            }
        }
        return $this->store($id, $row, $data, [
            'UpdateExpression' => 'SET #created = if_not_exists(#created, :ms)',
            'ConditionExpression' => implode(' AND ', $conditions),
        ], $values);
    }

    /** Begins a session: where no row is, or one that has expired or is no session. */
    private function create(string $id, array $row, string $data): bool
    {
        $condition = 'attribute_not_exists(#expires) OR #expires <= :now';
        $values = [];
        if (isset($row['private'], $row['version'])) {
            $condition .= ' OR #version = :old_version';
            $values[':old_version'] = $row['version'];
        }
        return $this->store($id, [], $data, [
            'UpdateExpression' => 'SET #created = :ms',
            'ConditionExpression' => $condition,
            '@retries' => 0,
        ], $values);
    }

    /**
     * Sends a write of data, and decides what a failure means. $row is the state that
     * it replaces.
     */
    private function store(string $id, array $row, string $data, array $request, array $values): bool
    {
        $token = random_bytes(self::TOKEN_SIZE);
        $expires = ['N' => $this->endAfter($row)];
        $next = [
            $this->getSessionLifetimeAttribute() => $expires,
            'version' => ['B' => substr($token . ($row['version']['B'] ?? ''), 0, self::VERSION_SIZE)],
        ];
        $set = ', #expires = :expires, #version = :version';
        $remove = ' REMOVE #lock, #until, #private';
        $values += [':expires' => $expires, ':version' => $next['version']];
        if ($data === '') {
            $remove .= ', #data';
        } else {
            $type = $this->getDataAttributeType() === 'binary' ? 'B' : 'S';
            $next[$this->getDataAttribute()] = $values[':data'] = [$type => $data];
            $set .= ', #data = :data';
        }
        $request['UpdateExpression'] .= $set . $remove;

        $end = microtime(true) + $this->getMaxLockWaitTime();
        while (true) {
            try {
                $this->update($id, $request, $values);
                break;
            } catch (DynamoDbException $e) {
                try {
                    $found = $this->getRow($id);
                } catch (DynamoDbException) {
                    return $this->fail('the store failed', $e);
                }
                if ($this->hasToken($found, $token)) {
                    break; // an earlier attempt was applied, and its answer was lost
                }
                if (microtime(true) < $end && $this->mayTryAgain($e, $row, $found)) {
                    $this->pause();
                    continue;
                }
                return self::isRefused($e)
                    ? $this->fail('it was changed, destroyed or moved since this request has read it, or it has expired')
                    : $this->fail('the store failed', $e);
            }
        }
        $this->rows[$id] = $next;
        return true;
    }

    /**
     * Tells whether a write may be sent again: it was throttled, and so not applied,
     * or only the lock of a request that has changed nothing was in the way.
     */
    private function mayTryAgain(DynamoDbException $e, array $row, array $found): bool
    {
        if (!self::isRefused($e)) {
            return in_array($e->getAwsErrorCode(), self::THROTTLED, true);
        }
        $data = $this->getDataAttribute();

        return !isset($row['lock']) && $this->isLive($row) && $this->isLive($found)
            && ($row['version'] ?? null) === ($found['version'] ?? null)
            && ($row[$data] ?? null) === ($found[$data] ?? null);
    }

    /** Sends an UpdateItem with the names and the times that its expressions use. */
    private function update(string $id, array $request, array $values)
    {
        $names = [
            '#data' => $this->getDataAttribute(),
            '#expires' => $this->getSessionLifetimeAttribute(),
            '#version' => 'version',
            '#created' => 'created',
            '#lock' => 'lock',
            '#until' => 'lock_until',
            '#private' => 'private',
        ];
        $values += [
            ':now' => ['N' => (string) time()],
            ':ms' => ['N' => self::milliseconds()],
            ':binary' => ['S' => 'B'],
        ];
        $text = $request['UpdateExpression'] . ' ' . $request['ConditionExpression'];
        $isUsed = static fn (string $name): bool => preg_match("/$name\\b/", $text) === 1;

        return $this->client->updateItem($request + [
            'TableName' => $this->getTableName(),
            'Key' => $this->formatKey($id),
            'ExpressionAttributeNames' => array_filter($names, $isUsed, ARRAY_FILTER_USE_KEY),
            'ExpressionAttributeValues' => array_filter($values, $isUsed, ARRAY_FILTER_USE_KEY),
        ]);
    }

    /** Sends an UpdateItem, and tells whether its condition held. */
    private function updateIf(string $id, string $update, string $condition, array $values): bool
    {
        try {
            $this->update($id, ['UpdateExpression' => $update, 'ConditionExpression' => $condition], $values);
        } catch (DynamoDbException $e) {
            if (self::isRefused($e)) {
                return false;
            }
            throw $e;
        }
        return true;
    }

    private function getRow(string $id): array
    {
        $answer = $this->client->getItem([
            'TableName' => $this->getTableName(),
            'Key' => $this->formatKey($id),
            'ConsistentRead' => true,
        ]);
        return $answer['Item'] ?? [];
    }

    private function isLive(array $row): bool
    {
        return !isset($row['private']) && $this->expires($row) > time();
    }

    /** Tells whether a lock is on the row that has not run out. */
    private function isLocked(array $row): bool
    {
        if (!isset($row['lock'])) {
            return false;
        }
        return !isset($row['lock']['B']) || (float) ($row['lock_until']['N'] ?? 0) > microtime(true) * 1000;
    }

    /** Tells whether the row is only a lock: a page with the stock handler begins a session. */
    private function isBegunByStock(array $row): bool
    {
        return isset($row['lock']) && !isset($row[$this->getSessionLifetimeAttribute()]);
    }

    /** Returns the end of a session that is used now. It is never brought forward. */
    private function endAfter(array $row): string
    {
        return sprintf('%.0f', max($this->expires($row), time() + $this->getSessionLifetime()));
    }

    private function expires(array $row): float
    {
        return (float) ($row[$this->getSessionLifetimeAttribute()]['N'] ?? 0);
    }

    private function hasToken(array $row, string $token): bool
    {
        return in_array($token, str_split($row['version']['B'] ?? '', self::TOKEN_SIZE), true);
    }

    private function pause(): void
    {
        usleep(random_int((int) $this->getMinLockRetryMicrotime(), (int) $this->getMaxLockRetryMicrotime()));
    }

    private function fail(string $reason, ?Throwable $cause = null): bool
    {
        $message = "The session was not saved: $reason.";
        if ($this->throw) {
            throw new RuntimeException($message, 0, $cause);
        }
        return $this->triggerError($message);
    }

    private static function isRefused(DynamoDbException $e): bool
    {
        return $e->getAwsErrorCode() === 'ConditionalCheckFailedException';
    }

    /** Returns the time in so many seconds, as text: it may be too large for an int. */
    private static function milliseconds(int $seconds = 0): string
    {
        return sprintf('%.0f', floor((microtime(true) + $seconds) * 1000));
    }
}
