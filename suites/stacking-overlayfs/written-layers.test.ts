import { join } from 'node:path';
import type { BatchCall, Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** What may be written for a layer in the options of an overlay, and what is none. */

interface Written {
  /** The directory that the layers are in, and where the client is: options may be relative. */
  readonly at: string;
  readonly errno: (options: string) => Promise<string>;
  readonly mount: (options: string) => Promise<StackedMount>;
}

/** Directories `a`, `b` and `c`, each with a file of its name, and the file `f`. */
async function written(guest: TestGuest, client: Client): Promise<Written> {
  const at = await guest.directory('ext4', 'layers');
  await fill(client, at, [
    'a/',
    'a/of-a',
    'b/',
    'b/of-b',
    'c/',
    'c/of-c',
    'f',
    'up/',
    'up/in/',
    'wo/',
    'wo/in/',
  ]);
  for (const name of ['a', 'b', 'up', 'wo']) {
    await client.symlink({ path: join(at, `to-${name}`), target: name });
  }
  await client.chdir({ path: at });
  const request = (options: string) => ({ source: 'overlay', type: 'overlay', options });
  return {
    at,
    errno: (options) => guest.mountErrno(request(options), client),
    mount: (options) => guest.mount(request(options), client),
  };
}

const UPPER = 'upperdir=up,workdir=wo';

/** By options, with an upper layer unless they name one. */
const TABLE: Readonly<Record<string, string>> = {
  'lowerdir=a': 'ok',
  'lowerdir=a:b': 'ok',
  'lowerdir=a:b:c': 'ok',
  'lowerdir=to-a': 'ok',
  'lowerdir=c:to-b': 'ok',
  'lowerdir=a,upperdir=to-up,workdir=to-wo': 'ok',
  'lowerdir=a:::b': 'EINVAL',
  'lowerdir=a:': 'EINVAL',
  'lowerdir=a:b:': 'EINVAL',
  'lowerdir=a::b:': 'EINVAL',
  'lowerdir=a::b:c': 'EINVAL',
  'lowerdir=:a': 'EINVAL',
  'lowerdir=': 'EINVAL',
  'lowerdir=a,lowerdir=': 'EINVAL',
  '': 'EINVAL',
  'lowerdir=nowhere': 'ENOENT',
  'lowerdir=a:nowhere': 'ENOENT',
  'lowerdir=f': 'EINVAL',
  'lowerdir=a:f': 'EINVAL',
  'lowerdir=a,upperdir=nowhere,workdir=wo': 'ENOENT',
  'lowerdir=a,upperdir=up,workdir=nowhere': 'ENOENT',
  'lowerdir=a,upperdir=f,workdir=wo': 'EINVAL',
  'lowerdir=a,upperdir=up,workdir=f': 'EINVAL',
  'lowerdir=a,upperdir=up,workdir=up': 'EINVAL',
  'lowerdir=a,upperdir=up,workdir=up/in': 'EINVAL',
  'lowerdir=a,upperdir=wo/in,workdir=wo': 'EINVAL',
  'lowerdir=a,workdir=wo,upperdir=up\\': 'ok',
  'upperdir=up,workdir=wo,lowerdir=\\': 'EINVAL',
};

guestTest('a layer is a directory that is there, and has a name', async (t, guest) => {
  await using client = await guest.client();
  const { errno } = await written(guest, client);
  for (const [options, expected] of Object.entries(TABLE)) {
    const all = options.includes('upperdir')
      ? options
      : [options, UPPER].filter((each) => each !== '').join(',');
    t.is(await errno(all), expected, all);
  }
});

guestTest('the last list of lower layers is the one that counts', async (t, guest) => {
  await using client = await guest.client();
  const { mount } = await written(guest, client);
  await using overlay = await mount(`lowerdir=a:c,lowerdir=b,${UPPER}`);
  t.deepEqual(await client.readdir({ path: overlay.path }), ['in', 'of-b']);
});

/** By options, where some layers are of data alone. Later kernels do without metacopy. */
const WITH_DATA: Readonly<Record<string, string>> = {
  'lowerdir=a::b,metacopy=on': 'ok',
  'lowerdir=a::b::c,metacopy=on': 'ok',
  'lowerdir=a:b::c,metacopy=on': 'ok',
  'lowerdir=a::b:c,metacopy=on': 'EINVAL',
  'lowerdir=a::b': 'EINVAL',
  'lowerdir=a::b,metacopy=off': 'EINVAL',
  'lowerdir=a::b,lowerdir=c:a': 'ok',
  'lowerdir=a::b,lowerdir=,lowerdir+=c,lowerdir+=a': 'ok',
  'lowerdir+=a,datadir+=b,metacopy=on': 'ok',
  'lowerdir+=a,datadir+=b': 'EINVAL',
  'datadir+=a,datadir+=b,metacopy=on': 'EINVAL',
  'datadir+=a,metacopy=on,upperdir=up,workdir=wo': 'EINVAL',
  'lowerdir=a:b,lowerdir=,lowerdir+=c,datadir+=b,metacopy=on': 'ok',
  'lowerdir+=nowhere,lowerdir+=a': 'ENOENT',
};

guestTest(
  'layers of data alone come last, with metacopy, and are not all that there is',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
    await using client = await guest.client();
    const { at, errno, mount } = await written(guest, client);
    for (const [options, expected] of Object.entries(WITH_DATA))
      t.is(await errno(options), expected, options);
    // One by one a name is what it is: a backslash in it is no escape, and a colon none of a list.
    await fill(client, at, ['d:\\d/', 'd:\\d/of-d']);
    await using overlay = await mount(`lowerdir+=${join(at, 'd:\\d')},lowerdir+=c`);
    t.deepEqual(await client.readdir({ path: overlay.path }), ['of-c', 'of-d']);
  },
);

const MOST = 500;

guestTest(`an overlay has ${MOST} lower layers at most`, async (t, guest) => {
  await using client = await guest.client();
  const { at } = await written(guest, client);
  const names = Array.from({ length: MOST + 1 }, (_none, nth) => `_${nth.toString(36)}`);
  const calls = names.map((name): BatchCall => ({ call: 'mkdir', args: { path: join(at, name) } }));
  t.true((await client.batch({ calls, oneThread: true })).every((result) => 'value' in result));
  const lowest = names[MOST - 1] ?? '';
  await fill(client, join(at, lowest), ['lowest']);
  const request = (count: number) => {
    const options = `lowerdir=${names.slice(0, count).join(':')}`;
    return { source: 'overlay', type: 'overlay', options };
  };
  t.is(await guest.mountErrno(request(MOST + 1), client), 'EINVAL', 'one more');
  await using overlay = await guest.mount(request(MOST), client);
  t.is(await client.errno.stat({ path: overlay.file('lowest') }), 'ok', 'the last of them counts');
});
