import { readFileSync, writeFileSync } from 'node:fs';
import type { MountOptions } from '../../protocol/server-calls.ts';
import { flagBits } from './constants.ts';
import { cString } from './memory.ts';
import { syscallSync, valueOf } from './syscall.ts';

export interface MountRecord {
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
  /** Super block options as the kernel lists them. */
  readonly options: string;
  /** Minor device number: of a FUSE mount the number of its connection. */
  readonly minor: number;
}

/**
 * mount(2) of an open /dev/fuse descriptor. Returns before INIT has been answered.
 * @throws SystemError
 */
export function mountFuse(fd: number, options: MountOptions): void {
  const data = [
    `fd=${fd}`,
    'rootmode=40000',
    'user_id=0',
    'group_id=0',
    ...(options.allowOther === false ? [] : ['allow_other']),
    ...(options.defaultPermissions === true ? ['default_permissions'] : []),
    ...(options.maxRead === undefined ? [] : [`max_read=${options.maxRead}`]),
  ].join(',');
  const type = options.subtype === undefined ? 'fuse' : `fuse.${options.subtype}`;
  const { mountPoint } = options;
  const flags = flagBits(options.flags);
  const strings = [cString('fusegate'), cString(mountPoint), cString(type)] as const;
  valueOf('mount', syscallSync('mount', ...strings, flags, cString(data)));
}

/** Number of the FUSE connection mounted there, by which fusectl names it. Asks nobody but the mount table. */
export function connectionOf(mountPoint: string): number {
  const mount = listMounts().findLast((record) => record.mountPoint === mountPoint);
  if (mount === undefined) throw new Error(`${mountPoint} is not in the mount table`);
  return mount.minor;
}

/** Percent of the pages that may be dirty in all: far more than a test dirties, and enough for all of its mounts. */
const DIRTY_SHARE = '5';

/**
 * Gives a mount its share of the pages that may be dirty (Documentation/ABI/testing/sysfs-class-bdi). One of FUSE
 * has none before it has written much, and the kernel begins to write back with every 32nd page that a thread
 * dirties: whether a page waits until somebody wants it written would depend on what the thread did before.
 * A server that may not write there does without.
 */
export function shareDirtyPages(connection: number): void {
  const bdi = `/sys/class/bdi/0:${connection}`;
  try {
    writeFileSync(`${bdi}/max_ratio`, '100');
    writeFileSync(`${bdi}/min_ratio`, DIRTY_SHARE);
  } catch {
    // No privilege, no sysfs, or all of it given away.
  }
}

/** /proc/self/mountinfo, in the order of mounting. */
export function listMounts(): MountRecord[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

export function parseMountInfo(text: string): MountRecord[] {
  return text
    .trimEnd()
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ');
      const [, , device = '', , mountPoint = ''] = left.split(' ');
      const [type = '', source = '', options = ''] = right.split(' ');
      return {
        mountPoint: unescapeOctal(mountPoint),
        type,
        source: unescapeOctal(source),
        options,
        minor: Number(device.split(':')[1]),
      };
    });
}

/** Space, tab, newline and backslash are octal in mountinfo. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}
