/** Two descriptors of the file as the mount has it, and one of the path where the server has it. */
export type Handle = 'a' | 'b' | 'behind';
export const HANDLES: readonly Handle[] = ['a', 'b', 'behind'];

export const SPACE_MODES = [
  '',
  'FALLOC_FL_KEEP_SIZE',
  'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE',
  'FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE',
] as const;
export type SpaceMode = (typeof SPACE_MODES)[number];

/** What a descriptor has besides O_RDWR. */
export interface HandleFlags {
  readonly append: boolean;
  readonly direct: boolean;
}

/** One step of a sequence. Offsets, lengths and sizes in bytes; `seed` is of the data that is written. */
export type Operation =
  | { readonly do: 'pread'; readonly on: Handle; readonly offset: number; readonly length: number }
  | {
      readonly do: 'pwrite' | 'pwrite-append';
      readonly on: Handle;
      readonly offset: number;
      readonly length: number;
      readonly seed: number;
    }
  | { readonly do: 'read'; readonly on: Handle; readonly length: number }
  | { readonly do: 'write'; readonly on: Handle; readonly length: number; readonly seed: number }
  | { readonly do: 'readv'; readonly on: Handle; readonly lengths: readonly number[] }
  | { readonly do: 'writev'; readonly on: Handle; readonly lengths: readonly number[]; readonly seed: number }
  | {
      readonly do: 'lseek';
      readonly on: Handle;
      readonly offset: number;
      readonly whence: 'SEEK_SET' | 'SEEK_CUR' | 'SEEK_END';
    }
  | { readonly do: 'ftruncate'; readonly on: Handle; readonly size: number }
  | { readonly do: 'map-read'; readonly offset: number; readonly length: number }
  | { readonly do: 'map-write'; readonly offset: number; readonly length: number; readonly seed: number }
  | { readonly do: 'remap' }
  | { readonly do: 'splice-out'; readonly on: Handle; readonly offset: number; readonly length: number }
  | {
      readonly do: 'splice-in';
      readonly on: Handle;
      readonly offset: number;
      readonly length: number;
      readonly seed: number;
    }
  | {
      readonly do: 'copy';
      readonly from: Handle;
      readonly to: Handle;
      readonly offIn: number;
      readonly offOut: number;
      readonly length: number;
    }
  | {
      readonly do: 'fallocate';
      readonly on: Handle;
      readonly mode: SpaceMode;
      readonly offset: number;
      readonly length: number;
    }
  | ({ readonly do: 'setfl'; readonly on: Handle } & HandleFlags)
  | ({ readonly do: 'reopen'; readonly on: Handle } & HandleFlags);

/** As a person would type it. */
export function inWords(operation: Operation): string {
  const { do: name, ...rest } = operation;
  const words = Object.entries(rest)
    .filter(([key]) => key !== 'seed')
    .map(([key, value]) => `${key}=${Array.isArray(value) ? value.join('+') : String(value)}`);
  return [name, ...words].join(' ');
}
