import { describe, expect, it } from '@jest/globals';
import { Keys } from '../../src/protocol/keys.js';
import { WORKFLOW_EVENTS } from '../../src/protocol/workflow-event.js';

describe('channels of a workflow', () => {
  it('are named after event and workflow, with the prefix in front', () => {
    expect(WORKFLOW_EVENTS.map((type) => new Keys('p:').workflowChannel(type, 'media'))).toEqual([
      'p:workflow:saved:media',
      'p:workflow:restarting:media',
      'p:workflow:ready:media',
      'p:workflow:stopped:media',
    ]);
  });

  it.each(['media', 'a:b', '{x}', '*?[a]', 'a b\n', '100%', '画像', 'saved'])(
    'tell the workflow that they are about: %j',
    (workflowId) => {
      for (const prefix of ['', 'tenant-a:', 'workflow:saved:']) {
        const keys = new Keys(prefix);
        const parsed = WORKFLOW_EVENTS.map((type) =>
          keys.parseWorkflowChannel(keys.workflowChannel(type, workflowId)),
        );
        expect(parsed).toEqual(WORKFLOW_EVENTS.map((type) => ({ type, workflowId })));
      }
    },
  );

  it.each([
    'workflow:saved',
    'workflow:saved:',
    'workflow:gone:media',
    'workflow:saved:a:b',
    'workflow:saved:a%3ab',
    'other:workflow:saved:a',
    'function:ready:saved:media',
  ])('are none: %s', (channel) => {
    expect(new Keys('').parseWorkflowChannel(channel)).toBeUndefined();
  });

  it('of one workflow are in one slot of a Cluster with its other keys', () => {
    const keys = new Keys('p:');
    for (const key of [keys.generation('a:b'), keys.restart('a:b'), keys.workflow('a:b')])
      expect(key).toContain('{a%3Ab}');
  });
});
