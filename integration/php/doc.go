// Package php tests PHP pages and Go pages that share sessions in one table. It
// runs real PHP, with a stand-in for the session handler of the AWS SDK for PHP.
package php
