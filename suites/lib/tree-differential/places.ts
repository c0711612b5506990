import type { BatchCall } from '#rootfs/protocol/syscalls.ts';
import { bytes } from '../bytes.ts';
import type { TreePlace } from './perform.ts';

/** Places in directories of their own below `dir`: `round` tells them apart. */

const mkdir = (path: string): BatchCall => ({ call: 'mkdir', args: { path } });

/** A directory itself. */
export function nativeTree(dir: string, round: number): TreePlace {
  const top = `${dir}/native-${round}`;
  return { name: 'native', top, start: [mkdir(top)], again: () => [], end: [] };
}

/** A directory of a filesystem that stays mounted; what the kernel has cached of names is dropped. */
export function cachedTree(name: string, dir: string, round: number): TreePlace {
  const top = `${dir}/seen-${round}`;
  // 2: dentries and inodes (Documentation/admin-guide/sysctl/vm.rst).
  const drop: BatchCall = {
    call: 'writeFile',
    args: { path: '/proc/sys/vm/drop_caches', data: bytes('2'), flags: 'O_WRONLY' },
  };
  return { name, top, start: [mkdir(top)], again: () => [drop], end: [] };
}

export interface Mounted {
  /** Of the layers. */
  readonly dir: string;
  readonly mountpoint: string;
  readonly options: string;
}

export interface OverlayPlace extends Mounted {
  /** Where the lowest layer is, if it is elsewhere. */
  readonly lowest?: string | undefined;
  readonly grows: boolean;
}

/**
 * A directory, which becomes the lower layer of an overlay when it is mounted anew for the first time. With `grows`
 * the upper layer becomes a lower one each further time, and an empty one is above; else the layers stay.
 */
export function overlayTree(
  { dir, lowest = dir, mountpoint, options, grows }: OverlayPlace,
  round: number,
): TreePlace {
  const layer = (nth: number): string => `${nth === 0 ? lowest : dir}/r${round}-layer-${nth}`;
  const work = (nth: number): string => `${dir}/r${round}-work-${nth}`;
  /** Layer `nth` is the upper one. */
  const mount = (nth: number): BatchCall => {
    const lower = Array.from({ length: nth }, (_each, index) => layer(nth - 1 - index)).join(':');
    const layers = `lowerdir=${lower},upperdir=${layer(nth)},workdir=${work(nth)}`;
    const args = { source: 'overlay', target: mountpoint, type: 'overlay', options: `${layers},${options}` };
    return { call: 'mount', args };
  };
  const on = (nth: number): BatchCall[] => [mkdir(layer(nth)), mkdir(work(nth)), mount(nth)];
  const bind = { source: layer(0), target: mountpoint, type: 'none', flags: 'MS_BIND' };
  const unmount: BatchCall = { call: 'umount2', args: { target: mountpoint } };
  return {
    name: 'overlay',
    top: mountpoint,
    start: [mkdir(layer(0)), { call: 'mount', args: bind }],
    again: (nth) => [unmount, ...(grows || nth === 1 ? on(nth) : [mount(1)])],
    end: [{ call: 'umount2', args: { target: mountpoint, flags: 'MNT_DETACH' } }],
  };
}

/** ecryptfs over a directory, with the options of its mount. */
export function ecryptfsTree({ dir, mountpoint, options }: Mounted, round: number): TreePlace {
  const lower = `${dir}/lower-${round}`;
  const mount: BatchCall = {
    call: 'mount',
    args: { source: lower, target: mountpoint, type: 'ecryptfs', options },
  };
  const unmount: BatchCall = { call: 'umount2', args: { target: mountpoint } };
  return {
    name: 'ecryptfs',
    top: mountpoint,
    start: [mkdir(lower), mount],
    again: () => [unmount, mount],
    end: [{ call: 'umount2', args: { target: mountpoint, flags: 'MNT_DETACH' } }],
  };
}
