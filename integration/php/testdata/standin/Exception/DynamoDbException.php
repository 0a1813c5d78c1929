<?php

declare(strict_types=1);

namespace Aws\DynamoDb\Exception;

class DynamoDbException extends \RuntimeException
{
    public function __construct(
        string $message,
        private ?string $awsCode = null,
        private ?int $status = null,
        ?\Throwable $previous = null
    ) {
        parent::__construct($message, 0, $previous);
    }

    /** The code that DynamoDB gave, or null if there was no answer. */
    public function getAwsErrorCode(): ?string
    {
        return $this->awsCode;
    }

    public function getAwsErrorMessage(): ?string
    {
        return $this->awsCode === null ? null : $this->getMessage();
    }

    public function getStatusCode(): ?int
    {
        return $this->status;
    }

    public function isConnectionError(): bool
    {
        return $this->status === null;
    }
}
