<?php

declare(strict_types=1);

namespace Aws\DynamoDb;

use Aws\DynamoDb\Exception\DynamoDbException;

class StandardSessionConnection implements SessionConnectionInterface
{
    use SessionConnectionConfigTrait;

    /** @var DynamoDbClient */
    protected $client;

    public function __construct(DynamoDbClient $client, array $config = [])
    {
        $this->client = $client;
        $this->initConfig($config);
    }

    public function read($id)
    {
        try {
            $answer = $this->client->getItem([
                'TableName' => $this->getTableName(),
                'Key' => $this->formatKey($id),
                'ConsistentRead' => $this->isConsistentRead(),
            ]);
        } catch (DynamoDbException) {
            return []; // as if there were no session
        }
        return array_map('current', $answer['Item'] ?? []);
    }

    public function write($id, $data, $isChanged)
    {
        $updates = [
            $this->getSessionLifetimeAttribute() => ['Value' => ['N' => (string) (time() + $this->getSessionLifetime())]],
            'lock' => ['Action' => 'DELETE'],
        ];
        if ($isChanged && $data == '') {
            $updates[$this->getDataAttribute()] = ['Action' => 'DELETE'];
        } elseif ($isChanged) {
            $type = $this->getDataAttributeType() === 'binary' ? 'B' : 'S';
            $updates[$this->getDataAttribute()] = ['Value' => [$type => $data]];
        }
        try {
            $this->client->updateItem([
                'TableName' => $this->getTableName(),
                'Key' => $this->formatKey($id),
                'AttributeUpdates' => $updates,
            ]);
        } catch (DynamoDbException $e) {
            return $this->triggerError("Session $id was not written: {$e->getMessage()}");
        }
        return true;
    }

    public function delete($id)
    {
        try {
            $this->client->deleteItem(['TableName' => $this->getTableName(), 'Key' => $this->formatKey($id)]);
        } catch (DynamoDbException $e) {
            return $this->triggerError("Session $id was not deleted: {$e->getMessage()}");
        }
        return true;
    }

    public function deleteExpired()
    {
        $scan = [
            'TableName' => $this->getTableName(),
            'AttributesToGet' => [$this->getHashKey()],
            'ScanFilter' => [
                $this->getSessionLifetimeAttribute() => [
                    'ComparisonOperator' => 'LT',
                    'AttributeValueList' => [['N' => (string) time()]],
                ],
                'lock' => ['ComparisonOperator' => 'NULL'],
            ],
        ];
        do {
            $page = $this->client->scan($scan);
            foreach (array_chunk($page['Items'], 25) as $keys) {
                $deletes = array_map(static fn (array $key): array => ['DeleteRequest' => ['Key' => $key]], $keys);
                $this->client->batchWriteItem(['RequestItems' => [$this->getTableName() => $deletes]]);
            }
            $scan['ExclusiveStartKey'] = $page['LastEvaluatedKey'] ?? null;
        } while ($scan['ExclusiveStartKey'] !== null);
    }

    protected function formatKey($key)
    {
        return [$this->getHashKey() => ['S' => $key]];
    }

    protected function triggerError($error)
    {
        trigger_error($error, E_USER_WARNING);

        return false;
    }
}
