import type { Hash } from 'node:crypto';

/**
 * A SHA-1 to be filled. node:crypto takes as long to load as all of this program: only a process that needs it
 * has it.
 */
export function sha1(): Hash {
  return process.getBuiltinModule('node:crypto').createHash('sha1');
}
