import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { lowerOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** A copy-up asks the servers of layers for attributes that they have said to be valid for no time: nothing is taken from before. */

const [LONG_AGO_NS, LATER_NS] = [1_500_000_000_000_000_000, 1_600_000_000_000_000_000];
/** Names are valid for long: looking one up does not bring its attributes. */
const ATTRIBUTES_EXPIRE = { entryValidS: 3600, attrValidS: 0 };

const touched = (client: Client, path: string, ns: number) =>
  client.utimens({ path, atimeNs: ns, mtimeNs: ns });

guestTest('a lower file is copied up as its server says that it is by then (E4)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client, ATTRIBUTES_EXPIRE);
  const { overlay, fuse, upper } = stack;
  await client.stat({ path: overlay.file('f') });
  // By the server itself, which does not tell the kernel.
  const path = fuse.backing('f');
  const data = 'longer than it was before';
  await client.writeFile({ path, data });
  await client.chown({ path, uid: 1234, gid: 2345 });
  await touched(client, path, LATER_NS);
  await client.setxattr({ path: overlay.file('f'), name: 'trusted.word', data: 'value' });
  const { size, uid, gid, mtimeNs } = await client.stat({ path: `${upper}/f` });
  t.deepEqual({ size, uid, gid, mtimeNs }, { size: data.length, uid: 1234, gid: 2345, mtimeNs: LATER_NS });
  t.is(text(await client.readFile({ path: `${upper}/f` })), data, 'all of its data');
});

guestTest(
  'a copy-up leaves its directory with the times that the server of the upper layer says that it has by then (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client, undefined, ATTRIBUTES_EXPIRE);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['d/', 'd/f', 'd/sub/', 'd/g']);
    await touched(client, overlay.file('d'), LONG_AGO_NS);
    // So that the directory has its mark: that asks for its attributes, too.
    await client.chmod({ path: overlay.file('d/g'), mode: 0o600 });
    for (const [nth, name] of ['f', 'sub'].entries()) {
      const ns = LATER_NS + nth * 1_000_000_000;
      await touched(client, fuse.backing('upper/d'), ns);
      await client.chmod({ path: overlay.file(`d/${name}`), mode: 0o700 });
      t.is(
        (await client.stat({ path: fuse.backing(`upper/d/${name}`) })).mode & 0o777,
        0o700,
        `${name}: copied`,
      );
      t.is(
        (await client.stat({ path: fuse.backing('upper/d') })).mtimeNs,
        ns,
        `${name}: the time of the directory`,
      );
    }
  },
);
