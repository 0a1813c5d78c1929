<?php

declare(strict_types=1);

namespace Aws\DynamoDb;

use Aws\DynamoDb\Exception\DynamoDbException;

class LockingSessionConnection extends StandardSessionConnection
{
    /** Returns null if there is no lock in time: to the handler, an empty session. */
    public function read($id)
    {
        $end = time() + $this->getMaxLockWaitTime();
        do {
            try {
                $answer = $this->client->updateItem([
                    'TableName' => $this->getTableName(),
                    'Key' => $this->formatKey($id),
                    'Expected' => ['lock' => ['Exists' => false]],
                    'AttributeUpdates' => ['lock' => ['Value' => ['N' => '1']]],
                    'ReturnValues' => 'ALL_NEW',
                ]);
                return array_map('current', $answer['Attributes'] ?? []);
            } catch (DynamoDbException $e) {
                $held = $e->getAwsErrorCode() === 'ConditionalCheckFailedException';
            }
            if (!$held || time() >= $end) {
                return null;
            }
            usleep(random_int($this->getMinLockRetryMicrotime(), $this->getMaxLockRetryMicrotime()));
        } while (true);
    }
}
