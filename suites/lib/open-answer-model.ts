import { OpenFlag } from '#rootfs/protocol/fuse.ts';
import type { Expectations } from './expectations.ts';

/**
 * What an answer to OPEN or CREATE makes of a file, by the rules of fuse_file_io_open(), fuse_finish_open() and
 * fuse_flush(): one answer for every combination of flags.
 */
export interface AnsweredOpen {
  /** `ok` or the errno that open(2) gives. */
  readonly open: string;
  /** Whose data read(2) gives; null where there is no file. */
  readonly data: 'backing file' | 'server' | null;
  /** Every read(2) is a READ: no page cache in between. */
  readonly readsAtServer: boolean;
  /** What lseek(2) says. */
  readonly seek: string;
  /** close(2) sends FLUSH. */
  readonly flushes: boolean;
}

const { PASSTHROUGH, DIRECT_IO, NONSEEKABLE, STREAM, NOFLUSH, PARALLEL_DIRECT_WRITES } = OpenFlag;
const BESIDE_PASSTHROUGH = PASSTHROUGH | DIRECT_IO | PARALLEL_DIRECT_WRITES | NOFLUSH;

type Rules = Pick<Expectations, 'abi' | 'unknownIdAtOpen'>;

/** `registered`: the answer names an id that the server has registered; else it names 0. */
export function answeredOpen(rules: Rules, openFlags: number, registered: boolean): AnsweredOpen {
  const passthrough = rules.abi === 'fd' ? registered : (openFlags & PASSTHROUGH) !== 0;
  if (passthrough && rules.abi === 'backing-id') {
    if (!registered) return refused(rules.unknownIdAtOpen);
    if ((openFlags & ~BESIDE_PASSTHROUGH) !== 0) return refused('EIO');
  }
  const direct = (openFlags & DIRECT_IO) !== 0;
  // The 2021 series looks at the id first, and at DIRECT_IO only where there is none.
  const fromBacking = passthrough && (!direct || rules.abi === 'fd');
  return {
    open: 'ok',
    data: fromBacking ? 'backing file' : 'server',
    readsAtServer: !fromBacking && direct,
    seek: (openFlags & (NONSEEKABLE | STREAM)) === 0 ? 'ok' : 'ESPIPE',
    flushes: (openFlags & NOFLUSH) === 0,
  };
}

function refused(errno: string): AnsweredOpen {
  return { open: errno, data: null, readsAtServer: false, seek: 'EBADF', flushes: false };
}

/** The flags that have a meaning to some open, and one bit that has none. */
const BITS = 9;
const ALL: readonly number[] = Array.from({ length: 1 << BITS }, (_none, bits) => bits);

/** PASSTHROUGH on and off, each with every pair of the other flags. */
export const PAIRS_OF_FLAGS: readonly number[] = ALL.filter((bits) => count(bits & ~PASSTHROUGH) <= 2);

/**
 * The same, and with PASSTHROUGH every combination, where the kernel looks at that flag: nearly all are refused.
 * What is taken costs requests: all 512 of each kind take a minute in a guest without KVM.
 */
export function everyPassthroughAnswer(rules: Rules): readonly number[] {
  return ALL.filter((bits) => {
    const looks = rules.abi === 'backing-id' && (bits & PASSTHROUGH) !== 0;
    return looks || PAIRS_OF_FLAGS.includes(bits);
  });
}

function count(bits: number): number {
  return bits.toString(2).replaceAll('0', '').length;
}

/** `PASSTHROUGH|NOFLUSH`, for messages. */
export function openAnswerNames(openFlags: number): string {
  const names = Object.entries(OpenFlag).filter(([, bit]) => (openFlags & bit) !== 0);
  const known = names.reduce((bits, [, bit]) => bits | bit, 0);
  const rest = openFlags & ~known;
  const words = names.map(([name]) => name);
  if (rest !== 0) words.push(`0x${rest.toString(16)}`);
  return words.length === 0 ? '0' : words.join('|');
}
