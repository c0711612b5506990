import { errnoName } from '../../protocol/errno.ts';
import type { CallResult, Syscalls } from '../../protocol/syscalls.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { addressOf } from '../sys/ffi.ts';
import { alignedBytes, alignedCopy } from '../sys/memory.ts';
import { syscall } from '../sys/syscall.ts';
import { mapValue, type CallTable } from './call-table.ts';
import { pairOf } from './file-calls.ts';

/** Data that moves between descriptors, and asynchronous I/O. */
export const transferCalls = {
  pipe: async ({ flags }) => {
    const bytes = new Uint8Array(8);
    return mapValue(await syscall('pipe2', bytes, flagBits(flags)), () => pairOf(bytes));
  },
  splice: ({ fdIn, offIn, fdOut, offOut, length, flags }) => {
    return syscall('splice', fdIn, position(offIn), fdOut, position(offOut), length, flagBits(flags));
  },
  tee: ({ fdIn, fdOut, length }) => syscall('tee', fdIn, fdOut, length, 0),
  sendfile: ({ fdOut, fdIn, offset, count }) => syscall('sendfile', fdOut, fdIn, position(offset), count),
  copy_file_range: ({ fdIn, offIn, fdOut, offOut, length }) => {
    return syscall('copy_file_range', fdIn, position(offIn), fdOut, position(offOut), length, 0);
  },
  aio: async ({ operations }) => {
    const context = new Uint8Array(8);
    const set = await syscall('io_setup', operations.length, context);
    if ('errno' in set) return set;
    const id = viewOf(context).getBigUint64(0, true);
    try {
      return await runBatch(id, operations);
    } finally {
      await syscall('io_destroy', id);
    }
  },
} satisfies Partial<CallTable>;

/** An offset by reference, or NULL for the descriptor's own position. */
function position(offset: number | null | undefined): Uint8Array | null {
  if (offset === null || offset === undefined) return null;
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigInt64(0, BigInt(offset), true);
  return bytes;
}

type AioArgs = Syscalls['aio']['args']['operations'];
type AioValue = Syscalls['aio']['value'];

const IOCB_BYTES = 64;
const EVENT_BYTES = 32;
const AIO_OPCODES = { pread: 0, pwrite: 1, fsync: 2, fdsync: 3 } as const;

/** One io_submit, one io_getevents for all of it. */
async function runBatch(id: bigint, operations: AioArgs): Promise<CallResult<AioValue>> {
  const buffers = operations.map(bufferOf);
  const blocks = operations.map((operation, index) => controlBlock(operation, buffers[index], index));
  const pointers = new Uint8Array(8 * blocks.length);
  blocks.forEach((block, index) => viewOf(pointers).setBigUint64(8 * index, addressOf(block), true));
  const submitted = await syscall('io_submit', id, blocks.length, pointers);
  if ('errno' in submitted) return submitted;
  const events = new Uint8Array(EVENT_BYTES * submitted.value);
  const got = await syscall('io_getevents', id, submitted.value, submitted.value, events, null);
  return mapValue(got, (count) => completions(viewOf(events), count, operations, buffers));
}

function bufferOf(operation: AioArgs[number]): Uint8Array | undefined {
  switch (operation.op) {
    case 'pread':
      return alignedBytes(operation.count, operation.misalign);
    case 'pwrite':
      return alignedCopy(operation.data, operation.misalign);
    default:
      return undefined;
  }
}

/** `struct iocb`: u64 data, u32 key, u32 rw_flags, u16 opcode, s16 prio, u32 fd, u64 buf, u64 bytes, s64 offset … */
function controlBlock(operation: AioArgs[number], buffer: Uint8Array | undefined, index: number): Uint8Array {
  const bytes = new Uint8Array(IOCB_BYTES);
  const view = viewOf(bytes);
  view.setBigUint64(0, BigInt(index), true);
  view.setUint16(16, AIO_OPCODES[operation.op], true);
  view.setUint32(20, operation.fd, true);
  if (buffer !== undefined) {
    view.setBigUint64(24, addressOf(buffer), true);
    view.setBigUint64(32, BigInt(buffer.length), true);
  }
  if ('offset' in operation) view.setBigInt64(40, BigInt(operation.offset), true);
  return bytes;
}

/** `struct io_event`: u64 data, u64 obj, s64 res, s64 res2. In the order of the operations. */
function completions(
  view: DataView,
  count: number,
  operations: AioArgs,
  buffers: readonly (Uint8Array | undefined)[],
): AioValue {
  const value: AioValue = operations.map(() => ({ result: 'not completed', data: null }));
  for (let at = 0; at < count * EVENT_BYTES; at += EVENT_BYTES) {
    const index = Number(view.getBigUint64(at, true));
    const result = Number(view.getBigInt64(at + 16, true));
    const read = operations[index]?.op === 'pread' && result >= 0;
    const data = read ? (buffers[index]?.subarray(0, result) ?? null) : null;
    value[index] = { result: result < 0 ? errnoName(-result) : result, data };
  }
  return value;
}
