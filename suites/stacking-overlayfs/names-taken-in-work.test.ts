import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';

/** Names that an overlay would give to what it makes in its work directory, which are there already. */

/** What it is called: `#` and the hexadecimal number that comes next of all overlays. */
const nameOf = (number: number) => `#${number.toString(16)}`;

guestTest(
  'what is to be made in a work directory under a name that there is, is refused: EIO',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['d/', 'e/', 'a', 'b', 'c']);
    const work = fuse.backing(WORK_DIR);
    const after = await fuse.position();
    await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    const [made] = await fuse.requests({ opcode: 'MKDIR', after });
    let last = Number.parseInt(String(made?.args['name']).slice(1), 16);
    t.is(made?.args['name'], nameOf(last), 'what it is called');

    const taken = async (number: number, change: () => Promise<string>): Promise<string> => {
      const path = `${work}/${nameOf(number)}`;
      await client.writeFile({ path, data: 'another' });
      const errno = await change();
      // Not removed: what has its inode number next would be the same file to the server.
      const kept = await client.errno.rename({ from: path, to: fuse.backing(`aside${number}`) });
      t.is(kept, 'ok', 'what has the name stays');
      return errno;
    };
    const copy = () => client.errno.chmod({ path: overlay.file('e'), mode: 0o700 });
    const remove = (name: string) => client.errno.unlink({ path: overlay.file(name) });
    t.is(await taken((last += 1), copy), 'EIO', 'a directory copied up');
    t.is(await taken((last += 1), () => remove('a')), 'EIO', 'the first whiteout');
    // Made under the next name, then linked to the one after that, which is to stay one for all.
    t.is(await taken((last += 2), () => remove('a')), 'EIO', 'a link of the whiteout');
    t.is(await taken((last += 1), () => remove('a')), 'EIO', 'a link of it again');
    t.deepEqual(await client.readdir({ path: overlay.path }), ['a', 'b', 'c', 'd', 'e', 'old']);
    t.is(await copy(), 'ok', 'a directory copied up, under a name that there is not');
    for (const name of ['a', 'b']) t.is(await remove(name), 'ok', `${name}, under a name that there is not`);
    const [a, b] = [
      await client.lstat({ path: fuse.backing('upper/a') }),
      await client.lstat({ path: fuse.backing('upper/b') }),
    ];
    t.is(a.ino, b.ino, 'one whiteout');
  },
);
