import { errnoName } from '../../protocol/errno.ts';
import type { CallResult, Syscalls } from '../../protocol/syscalls.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { addressOf } from '../sys/ffi.ts';
import { alignedBytes, alignedCopy, ioVectors, loadFrom, storeTo } from '../sys/memory.ts';
import { syscall } from '../sys/syscall.ts';
import type { CallTable } from './call-table.ts';

type Operations = Syscalls['uringChain']['args']['operations'];
type Completions = Syscalls['uringChain']['value'];

/** linux/io_uring.h. */
const OPCODES = { pread: 22, pwrite: 23, fsync: 3 } as const;
/** The same with a buffer that was registered. */
const OPCODES_FIXED = { pread: 4, pwrite: 5, fsync: 3 } as const;
const IORING_REGISTER_BUFFERS = 0;
const IOSQE_IO_LINK = 1 << 2;
const IORING_ENTER_GETEVENTS = 1;
const IORING_OFF_SQES = 0x1000_0000;
const SQE_BYTES = 64;
const CQE_BYTES = 16;
/** `struct io_uring_params`: where the offsets of both rings stand in it. */
const PARAMS_BYTES = 120;
const SQ_OFFSETS = 40;
const CQ_OFFSETS = 80;

/** A chain of requests to io_uring: each is begun when the one before has ended well. */
export const uringCalls = {
  uringChain: async ({ operations, fixed = false }) => {
    const params = new Uint8Array(PARAMS_BYTES);
    const made = await syscall('io_uring_setup', operations.length, params);
    if ('errno' in made) return made;
    try {
      return await withRings(made.value, ringsOf(params), (rings) =>
        runChain({ fd: made.value, fixed }, rings, operations),
      );
    } finally {
      await syscall('close', made.value);
    }
  },
} satisfies Partial<CallTable>;

/** Offsets into the one mapping that has both rings (IORING_FEAT_SINGLE_MMAP), and lengths in bytes. */
interface Layout {
  readonly sqTail: number;
  readonly sqArray: number;
  readonly cqTail: number;
  readonly cqes: number;
  readonly ringBytes: number;
  readonly sqeBytes: number;
}

interface Rings extends Layout {
  readonly ring: bigint;
  readonly entries: bigint;
}

function ringsOf(params: Uint8Array): Layout {
  const word = (at: number): number => viewOf(params).getUint32(at, true);
  const [sqEntries, cqEntries] = [word(0), word(4)];
  const sqArray = word(SQ_OFFSETS + 24);
  const cqes = word(CQ_OFFSETS + 20);
  const ringBytes = Math.max(sqArray + 4 * sqEntries, cqes + CQE_BYTES * cqEntries);
  const tails = { sqTail: word(SQ_OFFSETS + 4), cqTail: word(CQ_OFFSETS + 4) };
  return { ...tails, sqArray, cqes, ringBytes, sqeBytes: SQE_BYTES * sqEntries };
}

async function withRings(
  fd: number,
  layout: Layout,
  use: (rings: Rings) => Promise<CallResult<Completions>>,
): Promise<CallResult<Completions>> {
  const map = (length: number, offset: number) => {
    return syscall('mmap', 0, length, flagBits('PROT_READ|PROT_WRITE'), flagBits('MAP_SHARED'), fd, offset);
  };
  const ring = await map(layout.ringBytes, 0);
  if ('errno' in ring) return ring;
  const entries = await map(layout.sqeBytes, IORING_OFF_SQES);
  try {
    if ('errno' in entries) return entries;
    return await use({ ...layout, ring: BigInt(ring.value), entries: BigInt(entries.value) });
  } finally {
    await syscall('munmap', ring.value, layout.ringBytes);
    if (!('errno' in entries)) await syscall('munmap', entries.value, layout.sqeBytes);
  }
}

async function runChain(
  { fd, fixed }: { readonly fd: number; readonly fixed: boolean },
  rings: Rings,
  operations: Operations,
): Promise<CallResult<Completions>> {
  const buffers = operations.map((operation) => {
    if (operation.op === 'pread') return alignedBytes(operation.count);
    // None may be empty that is registered.
    return operation.op === 'pwrite' ? alignedCopy(operation.data) : alignedBytes(1);
  });
  if (fixed) {
    const vectors = ioVectors(buffers);
    const made = await syscall('io_uring_register', fd, IORING_REGISTER_BUFFERS, vectors, buffers.length);
    if ('errno' in made) return made;
  }
  const indices = new Uint32Array(operations.length);
  for (const [index, operation] of operations.entries()) {
    const link = index < operations.length - 1;
    const entry = submission(operation, {
      buffer: buffers[index] ?? new Uint8Array(),
      index,
      link,
      fixed,
    });
    await storeTo(rings.entries + BigInt(SQE_BYTES * index), entry);
    indices[index] = index;
  }
  await storeTo(rings.ring + BigInt(rings.sqArray), new Uint8Array(indices.buffer));
  await storeTo(rings.ring + BigInt(rings.sqTail), new Uint8Array(Uint32Array.of(operations.length).buffer));
  const count = operations.length;
  const entered = await syscall('io_uring_enter', fd, count, count, IORING_ENTER_GETEVENTS, null, 0);
  if ('errno' in entered) return entered;
  const done = viewOf(await loadFrom(rings.ring + BigInt(rings.cqTail), 4)).getUint32(0, true);
  const bytes = await loadFrom(rings.ring + BigInt(rings.cqes), CQE_BYTES * done);
  return { value: completions(viewOf(bytes), done, operations, buffers) };
}

interface Place {
  readonly buffer: Uint8Array;
  readonly index: number;
  readonly link: boolean;
  readonly fixed: boolean;
}

/**
 * `struct io_uring_sqe`: u8 opcode, u8 flags, u16 ioprio, s32 fd, u64 off, u64 addr, u32 len, u32 …, u64 user_data,
 * u16 buf_index.
 */
function submission(operation: Operations[number], { buffer, index, link, fixed }: Place): Uint8Array {
  const bytes = new Uint8Array(SQE_BYTES);
  const view = viewOf(bytes);
  view.setUint8(0, (fixed ? OPCODES_FIXED : OPCODES)[operation.op]);
  view.setUint8(1, link ? IOSQE_IO_LINK : 0);
  view.setInt32(4, operation.fd, true);
  if (operation.op !== 'fsync') {
    view.setBigUint64(8, BigInt(operation.offset), true);
    view.setBigUint64(16, addressOf(buffer), true);
    view.setUint32(24, buffer.length, true);
  }
  view.setBigUint64(32, BigInt(index), true);
  if (fixed && operation.op !== 'fsync') view.setUint16(40, index, true);
  return bytes;
}

/** `struct io_uring_cqe`: u64 user_data, s32 res, u32 flags. In the order of the operations. */
function completions(
  view: DataView,
  done: number,
  operations: Operations,
  buffers: readonly Uint8Array[],
): Completions {
  const value: Completions = operations.map(() => ({ result: 'not completed', data: null }));
  for (let at = 0; at < done * CQE_BYTES; at += CQE_BYTES) {
    const index = Number(view.getBigUint64(at, true));
    const result = view.getInt32(at + 8, true);
    const read = operations[index]?.op === 'pread' && result >= 0;
    const data = read ? (buffers[index]?.subarray(0, result) ?? null) : null;
    value[index] = { result: result < 0 ? errnoName(-result) : result, data };
  }
  return value;
}
