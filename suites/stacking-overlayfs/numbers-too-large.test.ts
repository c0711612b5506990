import { text } from '../lib/bytes.ts';
import { ATTR, ATTR_OUT, ENTRY, u64 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Numbers of a server that leave an overlay no room to say in them of which layer they are (xino, overlayfs.rst). */

const [SMALL, LARGE] = [0x1234_5678n, 0x7fff_0000_0000_1000n];
/** The highest two bits are xino's: that of the layer, and that of numbers that the overlay makes up. */
const [LAYER, ROOM] = [1n << 63n, 1n << 62n];
const MADE_UP = { on: ROOM, off: 0n } as const;

/** The number that is told of a name, and whether its device is another than that of the overlay. */
const TOLD = {
  on: [
    ['small', LAYER | SMALL, false],
    ['large', LARGE, true],
    ['small-dir', LAYER | (SMALL + 1n), false],
    ['large-dir', 'made up', false],
  ],
  off: [
    ['small', SMALL, true],
    ['large', LARGE, true],
    ['small-dir', 'made up', false],
    ['large-dir', 'made up', false],
  ],
} as const;

guestTest(
  'a number too large for xino is told as it is, with a device of its own (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const root = await guest.directory('ext4', 'lower');
    await fill(client, root, ['small', 'large', 'small-dir/', 'large-dir/']);
    await using fuse = await guest.mountFuse({ root, passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    for (const [name, ino] of [
      ['small', SMALL],
      ['large', LARGE],
      ['small-dir', SMALL + 1n],
      ['large-dir', LARGE + 1n],
    ] as const) {
      for (const [opcode, attr] of [
        ['LOOKUP', ENTRY.attr],
        ['GETATTR', ATTR_OUT.attr],
      ] as const) {
        const action = { do: 'patch', at: attr + ATTR.ino, bytes: u64(ino) } as const;
        await fuse.rule({ match: { opcode, path: `/${name}` }, action });
      }
    }
    for (const xino of ['on', 'off'] as const) {
      const options = `xino=${xino}`;
      await using overlay = await guest.mountOverlay(
        { lower: fuse.path, ...(await upperOn(guest)), options },
        client,
      );
      const numberOf = async (name: string) => {
        const path = overlay.file(name);
        // In words, as these are too large for a double.
        const seen = (await client.tree({ path: overlay.path })).find(
          (each) => each.path.split('/').at(-1) === name,
        );
        const fd = await client.open({ path, flags: 'O_RDONLY' });
        const info = text(await client.readFile({ path: `/proc/${client.pid}/fdinfo/${fd}` }));
        await client.close({ fd });
        const { devMajor, devMinor } = await client.stat({ path });
        const top = await client.stat({ path: overlay.path });
        return {
          ino: BigInt(seen?.ino ?? '0'),
          inner: BigInt(/^ino:\t(\d+)$/m.exec(info)?.[1] ?? '0'),
          own: devMajor !== top.devMajor || devMinor !== top.devMinor,
        };
      };
      for (const [name, number, own] of TOLD[xino]) {
        const told = await numberOf(name);
        const title = `xino=${xino}, ${name}`;
        if (number === 'made up') t.is(told.ino - (told.ino % ROOM), MADE_UP[xino], `${title}: made up`);
        else t.is(told.ino, number, title);
        t.is(told.inner, told.ino, `${title}: the same in /proc`);
        t.is(told.own, own, `${title}: a device of its own`);
      }
    }
  },
);
