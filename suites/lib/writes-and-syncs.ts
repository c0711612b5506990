import type { FuseMount } from './fuse-mount.ts';

/** FUSE_FSYNC_FDATASYNC of linux/fuse.h. */
const DATASYNC = 1;

/** What the server is asked to write, sync and flush while `work` is done; an fsync of data alone is FDATASYNC. */
export async function writesAndSyncs(fuse: FuseMount, work: () => Promise<unknown>): Promise<string[]> {
  const after = await fuse.position();
  await work();
  const all = await fuse.requests({ opcode: ['WRITE', 'FSYNC', 'FLUSH'], after });
  return all.map(({ opcode, args }) =>
    opcode === 'FSYNC' && Number(args['fsync_flags']) & DATASYNC ? 'FDATASYNC' : opcode,
  );
}
