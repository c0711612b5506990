import test from 'ava';
import { parseMountInfo } from './mount.ts';

test('mountinfo gives mount point, type, source and connection number', (t) => {
  const text = [
    '25 30 0:23 / /sys/fs/fuse/connections rw,relatime shared:9 - fusectl fusectl rw',
    String.raw`61 30 0:44 / /run/a\040b rw,relatime - fuse.x fusegate rw,user_id=0,group_id=0,allow_other`,
    '',
  ].join('\n');
  t.deepEqual(parseMountInfo(text), [
    { mountPoint: '/sys/fs/fuse/connections', type: 'fusectl', source: 'fusectl', options: 'rw', minor: 23 },
    {
      mountPoint: '/run/a b',
      type: 'fuse.x',
      source: 'fusegate',
      options: 'rw,user_id=0,group_id=0,allow_other',
      minor: 44,
    },
  ]);
});
