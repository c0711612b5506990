export const RENAME_FLAGS = ['', 'RENAME_NOREPLACE', 'RENAME_EXCHANGE'] as const;

/**
 * One step in a tree of names. Paths are below its top. Lengths and sizes in bytes, times in nanoseconds since the
 * epoch; `seed` is of the data that is written.
 */
export type TreeOperation =
  | { readonly do: 'mkdir'; readonly path: string; readonly mode: number }
  | {
      readonly do: 'create';
      readonly path: string;
      readonly mode: number;
      readonly length: number;
      readonly seed: number;
    }
  | {
      readonly do: 'overwrite' | 'append';
      readonly path: string;
      readonly length: number;
      readonly seed: number;
    }
  | { readonly do: 'truncate'; readonly path: string; readonly size: number }
  | { readonly do: 'unlink' | 'rmdir' | 'look' | 'list'; readonly path: string }
  | {
      readonly do: 'rename';
      readonly from: string;
      readonly to: string;
      readonly flags: (typeof RENAME_FLAGS)[number];
    }
  | { readonly do: 'link'; readonly from: string; readonly to: string }
  | { readonly do: 'symlink'; readonly path: string; readonly target: string }
  | { readonly do: 'mkfifo'; readonly path: string; readonly mode: number }
  | { readonly do: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly do: 'chown'; readonly path: string; readonly uid: number; readonly gid: number }
  | { readonly do: 'utimens'; readonly path: string; readonly mtimeNs: number }
  | { readonly do: 'setxattr'; readonly path: string; readonly name: string; readonly value: string }
  | { readonly do: 'removexattr'; readonly path: string; readonly name: string }
  /** A file that stays open for reading and writing, until the next is held or all begins again. */
  | { readonly do: 'hold'; readonly path: string }
  | { readonly do: 'held-write'; readonly offset: number; readonly length: number; readonly seed: number }
  | { readonly do: 'held-look' }
  /** A directory that stays open. */
  | { readonly do: 'opendir'; readonly path: string }
  | { readonly do: 'reread' }
  /** What only memory knows is forgotten: everything is closed, and mounted anew. */
  | { readonly do: 'again' };

export type TreeOperationName = TreeOperation['do'];

/** As a person would type it. */
export function inWords(operation: TreeOperation): string {
  const { do: name, ...rest } = operation;
  const words = Object.entries(rest)
    .filter(([key]) => key !== 'seed')
    .map(([key, value]) => `${key}=${key === 'mode' ? `0${value.toString(8)}` : String(value)}`);
  return [name, ...words].join(' ');
}
