import type { CallResult } from '../../protocol/syscalls.ts';
import { flagBits } from '../sys/constants.ts';
import { loadFrom, PAGE_BYTES, storeTo } from '../sys/memory.ts';
import { syscall } from '../sys/syscall.ts';
import { mapValue, type CallTable } from './call-table.ts';

interface Mapping {
  readonly address: bigint;
  readonly length: number;
}

const mappings = new Map<number, Mapping>();
let nextMapping = 1;

/** Memory mappings of files, by handle. A bus error ends this process: that is the result. */
export const mappingCalls = {
  mmap: async ({ fd, length, prot, flags, offset }) => {
    const result = await syscall('mmap', 0, length, flagBits(prot), flagBits(flags), fd, offset ?? 0);
    return mapValue(result, (address) => {
      mappings.set(nextMapping, { address: BigInt(address), length });
      return nextMapping++;
    });
  },
  mread: ({ map, offset, length }) => {
    return within(map, offset, length, async (address) => ({ value: await loadFrom(address, length) }));
  },
  mwrite: ({ map, offset, data }) => {
    return within(map, offset, data.length, async (address) => {
      await storeTo(address, data);
      return { value: data.length };
    });
  },
  readInto: ({ fd, map, offset, length }) => {
    return within(map, offset, length, (address) => syscall('read', fd, address, length));
  },
  readdirInto: ({ fd, map, offset, length }) => {
    return within(map, offset, length, (address) => syscall('getdents64', fd, address, length));
  },
  writeFrom: ({ fd, map, offset, length }) => {
    return within(map, offset, length, (address) => syscall('write', fd, address, length));
  },
  msync: ({ map, offset, length, flags }) => {
    return within(map, offset, length, (address, bytes) => syscall('msync', address, bytes, flagBits(flags)));
  },
  madvise: ({ map, offset, length, advice }) => {
    return within(map, offset, length, (address, bytes) => {
      return syscall('madvise', address, bytes, flagBits(advice));
    });
  },
  mprotect: ({ map, prot }) => {
    return within(map, 0, undefined, (address, bytes) => {
      return syscall('mprotect', address, bytes, flagBits(prot));
    });
  },
  mincore: ({ map, offset, length }) => {
    return within(map, offset, length, async (address, bytes) => {
      const pages = new Uint8Array(Math.ceil(bytes / PAGE_BYTES));
      const result = await syscall('mincore', address, bytes, pages);
      return mapValue(result, () => pages.map((page) => page & 1));
    });
  },
  munmap: async ({ map }) => {
    const result = await within(map, 0, undefined, (address, bytes) => syscall('munmap', address, bytes));
    mappings.delete(map);
    return result;
  },
} satisfies Partial<CallTable>;

/** @returns false when one of them would not go. */
export async function unmapAll(): Promise<boolean> {
  for (const map of [...mappings.keys()]) {
    if ('errno' in (await mappingCalls.munmap({ map }))) return false;
  }
  return true;
}

/** A range of a mapping; outside of one there is nothing that may be touched. */
function within<T>(
  map: number,
  offset: number | undefined,
  length: number | undefined,
  use: (address: bigint, length: number) => Promise<CallResult<T>>,
): Promise<CallResult<T>> {
  const mapping = mappings.get(map);
  if (mapping === undefined) return Promise.resolve({ errno: 'EINVAL' });
  const start = offset ?? 0;
  const bytes = length ?? mapping.length - start;
  if (start < 0 || bytes < 0 || start + bytes > mapping.length) return Promise.resolve({ errno: 'EFAULT' });
  return use(mapping.address + BigInt(start), bytes);
}
