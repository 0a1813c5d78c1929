<?php

declare(strict_types=1);

namespace Aws\DynamoDb;

interface SessionConnectionInterface
{
    /** Returns the attributes of the row as strings. */
    public function read($id);

    /** Returns whether the session was written. */
    public function write($id, $data, $isChanged);

    /** Returns whether the session was deleted. */
    public function delete($id);

    public function deleteExpired();
}
