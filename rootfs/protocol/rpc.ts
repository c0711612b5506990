/**
 * The envelope of every message between host and guest, and between an AVA worker and the runner.
 * A message is one frame: a 32-bit big-endian byte count, then that many bytes of UTF-8 JSON.
 */
export interface RpcRequest {
  readonly id: number;
  readonly method: string;
  readonly params: unknown;
}

export interface RpcError {
  /** Stable word for programs: an errno name (`EBADF`) or a protocol condition (`unknown-method`). */
  readonly code: string;
  /** One sentence for people. */
  readonly message: string;
}

export type RpcResponse =
  { readonly id: number; readonly result: unknown } | { readonly id: number; readonly error: RpcError };

/** Frames larger than this are refused: the peer is broken or hostile. Bytes. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;
