<?php

declare(strict_types=1);

namespace Aws\DynamoDb;

trait SessionConnectionConfigTrait
{
    protected $tableName = 'sessions';
    protected $hashKey = 'id';
    protected $dataAttribute = 'data';
    protected $dataAttributeType = 'string';
    protected $sessionLifetime;
    protected $sessionLifetimeAttribute = 'expires';
    protected $consistentRead = true;
    protected $batchConfig = [];
    protected $locking = false;
    protected $maxLockWaitTime = 10;
    protected $minLockRetryMicrotime = 10000;
    protected $maxLockRetryMicrotime = 50000;

    /** Calls setTableName for the key table_name, and so on; others are ignored. */
    public function initConfig(array $config = [])
    {
        $config += ['session_lifetime' => (int) ini_get('session.gc_maxlifetime')];
        foreach ($config as $key => $value) {
            $setter = 'set' . str_replace('_', '', ucwords($key, '_'));
            if (method_exists($this, $setter)) {
                $this->$setter($value);
            }
        }
    }

    public function getTableName()
    {
        return $this->tableName;
    }

    public function setTableName($value)
    {
        $this->tableName = $value;
    }

    public function getHashKey()
    {
        return $this->hashKey;
    }

    public function setHashKey($value)
    {
        $this->hashKey = $value;
    }

    public function getDataAttribute()
    {
        return $this->dataAttribute;
    }

    public function setDataAttribute($value)
    {
        $this->dataAttribute = $value;
    }

    public function getDataAttributeType()
    {
        return $this->dataAttributeType;
    }

    public function setDataAttributeType($value)
    {
        $this->dataAttributeType = $value;
    }

    public function getSessionLifetime()
    {
        return $this->sessionLifetime;
    }

    public function setSessionLifetime($value)
    {
        $this->sessionLifetime = $value;
    }

    public function getSessionLifetimeAttribute()
    {
        return $this->sessionLifetimeAttribute;
    }

    public function setSessionLifetimeAttribute($value)
    {
        $this->sessionLifetimeAttribute = $value;
    }

    public function isConsistentRead()
    {
        return $this->consistentRead;
    }

    public function setConsistentRead($value)
    {
        $this->consistentRead = $value;
    }

    public function getBatchConfig()
    {
        return $this->batchConfig;
    }

    public function setBatchConfig($value)
    {
        $this->batchConfig = $value;
    }

    public function isLocking()
    {
        return $this->locking;
    }

    public function setLocking($value)
    {
        $this->locking = $value;
    }

    public function getMaxLockWaitTime()
    {
        return $this->maxLockWaitTime;
    }

    public function setMaxLockWaitTime($value)
    {
        $this->maxLockWaitTime = $value;
    }

    public function getMinLockRetryMicrotime()
    {
        return $this->minLockRetryMicrotime;
    }

    public function setMinLockRetryMicrotime($value)
    {
        $this->minLockRetryMicrotime = $value;
    }

    public function getMaxLockRetryMicrotime()
    {
        return $this->maxLockRetryMicrotime;
    }

    public function setMaxLockRetryMicrotime($value)
    {
        $this->maxLockRetryMicrotime = $value;
    }
}
