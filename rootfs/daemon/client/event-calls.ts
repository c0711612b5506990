import type { CallResult, FileEvent } from '../../protocol/syscalls.ts';
import { viewOf } from '../sys/bytes.ts';
import { eventNames, flagBits } from '../sys/constants.ts';
import { alignedBytes, cString } from '../sys/memory.ts';
import { syscall } from '../sys/syscall.ts';
import { AT_FDCWD, mapValue, type CallTable } from './call-table.ts';

const BUFFER_BYTES = 64 * 1024;

/** Being told of what others do: inotify(7) and fanotify(7), where nothing to tell is EAGAIN, and poll(2). None waits, but poll when it is told to. */
export const eventCalls = {
  inotify_init: () => syscall('inotify_init1', flagBits('O_NONBLOCK|O_CLOEXEC')),
  inotify_add_watch: ({ fd, path, mask }) => syscall('inotify_add_watch', fd, cString(path), flagBits(mask)),
  inotify_read: ({ fd }) => readEvents(fd, parseInotify),
  fanotify_init: () => {
    const flags = flagBits('FAN_CLASS_NOTIF|FAN_NONBLOCK|FAN_CLOEXEC');
    return syscall('fanotify_init', flags, flagBits('O_RDONLY'));
  },
  fanotify_mark: ({ fd, flags, mask, path }) => {
    return syscall('fanotify_mark', fd, flagBits(flags), flagBits(mask), AT_FDCWD, cString(path));
  },
  fanotify_read: async ({ fd }) => {
    const result = await readEvents(fd, parseFanotify);
    if ('errno' in result) return result;
    // Each event comes with an open descriptor of the file.
    for (const event of result.value) await syscall('close', event.fd);
    return mapValue(result, (events) => events.map(({ names, pid }) => ({ names, pid })));
  },
  poll: async ({ fd, waitMs = 0, events = 'in|out' }) => {
    // `struct pollfd`: s32 fd, s16 events, s16 revents. `struct timespec`: s64 seconds, s64 nanoseconds.
    const polled = new Uint8Array(8);
    const view = viewOf(polled);
    const wait = new Uint8Array(16);
    viewOf(wait).setBigInt64(0, BigInt(Math.floor(waitMs / 1000)), true);
    viewOf(wait).setBigInt64(8, BigInt(waitMs % 1000) * 1_000_000n, true);
    view.setInt32(0, fd, true);
    view.setInt16(4, WANTED[events], true);
    const result = await syscall('ppoll', polled, 1, wait, null, 8);
    const ready = (): string =>
      Object.entries(POLL)
        .filter(([, bit]) => (view.getInt16(6, true) & bit) !== 0)
        .map(([name]) => name)
        .join('|');
    return mapValue(result, ready);
  },
} satisfies Partial<CallTable>;

/** poll(2). */
const POLL = { in: 0x1, out: 0x4, err: 0x8, hup: 0x10, nval: 0x20, rdnorm: 0x40, wrnorm: 0x100 } as const;
const WANTED = { 'in|out': POLL.in | POLL.out, 'rdnorm|wrnorm': POLL.rdnorm | POLL.wrnorm } as const;

async function readEvents<T>(fd: number, parse: (bytes: Uint8Array) => T[]): Promise<CallResult<T[]>> {
  const buffer = alignedBytes(BUFFER_BYTES);
  const result = await syscall('read', fd, buffer, buffer.length);
  return mapValue(result, (length) => parse(buffer.subarray(0, length)));
}

/** `struct inotify_event`: s32 wd, u32 mask, u32 cookie, u32 len, name. */
function parseInotify(bytes: Uint8Array): (FileEvent & { watch: number })[] {
  const view = viewOf(bytes);
  const events = [];
  for (let at = 0; at + 16 <= bytes.length; at += 16 + view.getUint32(at + 12, true)) {
    events.push({ watch: view.getInt32(at, true), names: eventNames(view.getUint32(at + 4, true)) });
  }
  return events;
}

/** `struct fanotify_event_metadata`: u32 event_len, u8 vers, u8 reserved, u16 metadata_len, u64 mask, s32 fd, s32 pid. */
function parseFanotify(bytes: Uint8Array): (FileEvent & { fd: number; pid: number })[] {
  const view = viewOf(bytes);
  const events = [];
  for (let at = 0; at + 24 <= bytes.length; at += view.getUint32(at, true)) {
    const names = eventNames(Number(view.getBigUint64(at + 8, true)));
    events.push({ names, fd: view.getInt32(at + 16, true), pid: view.getInt32(at + 20, true) });
  }
  return events;
}
