/** The agent refused a request: a result of the system under test, not a failure of fusegate. */
export class RpcFailure extends Error {
  override readonly name = 'RpcFailure';
  /** An errno name (`EBADF`) or a protocol condition (`unknown-method`). */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}
