import { guestTest } from '../lib/guest-test.ts';

/** Directories of ecryptfs are read from those below. */

guestTest(
  'a directory of ecryptfs is read in parts, and on from where it was sought to',
  async (t, guest) => {
    await using client = await guest.client();
    // Positions of ext4 are hashes, too large for a double.
    const lower = await guest.directory('tmpfs', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const names = Array.from({ length: 12 }, (_each, nth) => `name-${nth}`);
    for (const name of names) await client.mkdir({ path: ecryptfs.file(name) });
    const fd = await client.open({ path: ecryptfs.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const parts: { position: number; names: string[] }[] = [];
    for (let done = false; !done;) {
      const position = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
      // Room for two or three names.
      const part = await client.readdirFd({ fd, bytes: 80 });
      done = part.length === 0;
      if (!done) parts.push({ position, names: part });
    }
    t.true(parts.length > 4, 'several parts');
    t.deepEqual(parts.flatMap((part) => part.names).sort(), ['.', '..', ...names].sort(), 'each name once');
    for (const { position, names: part } of parts.toReversed()) {
      t.is(await client.lseek({ fd, offset: position, whence: 'SEEK_SET' }), position);
      t.deepEqual(await client.readdirFd({ fd, bytes: 80 }), part, `from ${position}`);
    }
    await client.close({ fd });
  },
);
