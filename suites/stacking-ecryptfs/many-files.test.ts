import { guestTest } from '../lib/guest-test.ts';
import { allOf } from '../lib/all-of.ts';

/** Files on ecryptfs of which the kernel knows very many at once. */

/** So many that several are in the same place of the kernel's table of files, whatever their addresses are. */
const FILES = 4000;
const FIFO = 0o010_600;

guestTest(
  'every file on ecryptfs is the lower file of its name, however many are known',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const names = Array.from({ length: FILES }, (_none, nth) => `f${nth}`);
    // Pipes: there is nothing in them that would have to be read.
    const made = await allOf(
      client,
      names.map((name) => ({ call: 'mknod', args: { path: `${lower}/${name}`, mode: FIFO } })),
    );
    t.true(made.every((value) => value === 0));
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const numbers = async (at: string) => {
      const stats = await allOf(
        client,
        names.map((name) => ({ call: 'lstat', args: { path: `${at}/${name}` } })),
      );
      return stats.map((stat) => (stat as { readonly ino?: number }).ino);
    };
    const below = await numbers(lower);
    t.is(new Set(below).size, FILES, 'numbers of the lower files');
    const seen = await numbers(ecryptfs.path);
    const others = names.filter((_name, nth) => seen[nth] !== below[nth]);
    t.deepEqual(others, [], 'names that are another file on ecryptfs');
  },
);
